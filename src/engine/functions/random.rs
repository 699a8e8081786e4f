//! `random_share`: a number that looks random and is always the same for a text and a salt.

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// From 0 up to, but not including, 1: the first 13 hexadecimal digits of SHA-256 of `salt:text`, as a fraction.
/// So any tool that knows SHA-256 finds the same people. 52 bits are exact in a double.
pub(in crate::engine) fn random_share(text: &str, salt: &str) -> f64 {
    let digest = Sha256::new().chain_update(salt).chain_update(":").chain_update(text).finalize();
    let bits = digest.iter().take(7).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) >> 4;
    bits as f64 / (1_u64 << 52) as f64
}

/// The SQL function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RandomShare {
    signature: Signature,
}

impl RandomShare {
    pub(super) fn new() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RandomShare {
    fn name(&self) -> &'static str {
        "random_share"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = |index: usize| -> Result<ArrayRef> {
            Ok(cast(&args.args[index].to_array(args.number_rows)?, &DataType::Utf8)?)
        };
        let (values, salts) = (texts(0)?, texts(1)?);
        let pairs = values.as_string::<i32>().iter().zip(salts.as_string::<i32>());
        let shares: Float64Array = pairs.map(|(value, salt)| Some(random_share(value?, salt?))).collect();
        Ok(ColumnarValue::Array(Arc::new(shares)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_the_start_of_the_digest() {
        // printf 'q3:ann' | sha256sum begins with aa57718c8dff0
        assert_eq!((random_share("ann", "q3") * 16_f64.powi(13)) as u64, 0xa_a577_18c8_dff0);
        let shares: Vec<f64> = (0..2000).map(|n| random_share(&n.to_string(), "q3")).collect();
        assert!(shares.iter().all(|s| (0.0..1.0).contains(s)));
        let low = shares.iter().filter(|s| **s < 0.1).count();
        assert!((150..=250).contains(&low), "{low} of 2000 are below a tenth");
    }
}
