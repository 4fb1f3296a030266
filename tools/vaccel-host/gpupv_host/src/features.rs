// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which features there are (commands 68 and 1022).
//!
//! The documents give the layout and the numbers of three features; the rest is inferred: a feature
//! of an adapter is known to the host as a whole, but enabled on the adapter only; one that the host
//! does not know is answered with success and without the mark of a known one, so that a guest can
//! ask a host that is older than itself.

use gpupv::{
    FeatureFlags, FeatureId, FeatureState, IsFeatureEnabled, IsFeatureEnabledGlobal,
    IsFeatureEnabledReply, NtStatus, Request,
};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::Host;

/// Version of a feature that is there.
const VERSION: u16 = 1;

impl Host {
    pub(crate) fn is_feature_enabled(
        &mut self,
        call: &Call,
        request: &Request<'_, IsFeatureEnabled>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let reply = self.feature(request.body().feature, true)?;
        call.answer(request, &reply, ())
    }

    /// The same without an adapter.
    pub(crate) fn is_feature_enabled_global(
        &mut self,
        call: &Call,
        request: &Request<'_, IsFeatureEnabledGlobal>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let reply = self.feature(request.body().feature, false)?;
        call.answer(request, &reply, ())
    }

    fn feature(
        &self,
        feature: FeatureId,
        on_adapter: bool,
    ) -> Result<IsFeatureEnabledReply, NtStatus> {
        let there = match feature {
            FeatureId::HWSCH => self.config.choices.hw_scheduling,
            FeatureId::PAGE_BASED_MEMORY_MANAGER | FeatureId::KERNEL_MODE_TESTING => false,
            _ if self.config.choices.unknown_feature_answered => {
                return Ok(IsFeatureEnabledReply::default());
            }
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        let known = IsFeatureEnabledReply {
            status: NtStatus::SUCCESS,
            flags: FeatureFlags::DRIVER_FEATURE,
            state: FeatureState::KNOWN_FEATURE,
            ..IsFeatureEnabledReply::default()
        };
        if !there {
            return Ok(known);
        }
        let known = IsFeatureEnabledReply {
            min_supported_version: VERSION,
            max_supported_version: VERSION,
            flags: known.flags | FeatureFlags::SUPPORTED,
            ..known
        };
        if !on_adapter {
            return Ok(known);
        }
        let on = FeatureState::ENABLED
            | FeatureState::SUPPORTED_BY_DRIVER
            | FeatureState::SUPPORTED_ON_CONFIG;
        Ok(IsFeatureEnabledReply {
            version: VERSION,
            state: known.state | on,
            ..known
        })
    }
}
