/* SPDX-License-Identifier: GPL-2.0-only */

/* Input of bindgen for the uapi module of bindings.rs. */

#include <drm/vaccel_accel.h>
