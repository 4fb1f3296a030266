/* SPDX-License-Identifier: GPL-2.0-only */

/*
 * Input of bindgen for bindings.rs: what the kernel crate's own bindings lack. The Makefile lists
 * the items that are emitted; every other name comes from kernel::bindings.
 */

#include <linux/anon_inodes.h>
#include <linux/completion.h>
#include <linux/dma-fence.h>
#include <linux/dma-fence-chain.h>
#include <linux/dma-fence-unwrap.h>
#include <linux/eventfd.h>
#include <linux/hyperv.h>
#include <linux/io.h>
#include <linux/io_uring/cmd.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sync_file.h>
#include <linux/workqueue.h>

#include <drm/drm_accel.h>
#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_print.h>
#include <drm/drm_syncobj.h>

#include "helpers.h"

/* Macros that bindgen cannot evaluate, with the types of the parameters they are for. */
static const unsigned long VACCEL_MEMREMAP_WB = MEMREMAP_WB;
static const unsigned long VACCEL_MEMREMAP_WC = MEMREMAP_WC;
static const unsigned int VACCEL_PMD_ORDER = PMD_ORDER;
static const unsigned int VACCEL_WQ_UNBOUND = WQ_UNBOUND;
static const unsigned int VACCEL_WQ_MEM_RECLAIM = WQ_MEM_RECLAIM;
static const unsigned int VACCEL_IO_URING_F_NONBLOCK = IO_URING_F_NONBLOCK;
static const unsigned int VACCEL_IO_URING_F_SQE128 = IO_URING_F_SQE128;
static const unsigned int VACCEL_IO_URING_F_CANCEL = IO_URING_F_CANCEL;
static const unsigned int VACCEL_URING_TASK_WORK_FLAGS = IO_URING_CMD_TASK_WORK_ISSUE_FLAGS;
