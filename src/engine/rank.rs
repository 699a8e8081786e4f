//! The rank of people by columns of their profile, for `top:`.

use super::wide::Wide;
use crate::error::{Context, ErrorKind, Result};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use std::cmp::Ordering;

/// One bound expression of a rank.
#[derive(Debug, Clone)]
pub(super) struct RankKey {
    pub expr: Expr,
    pub descending: bool,
}

impl RankKey {
    fn field(&self, data_type: &DataType) -> SortField {
        let options = SortOptions { descending: self.descending, nulls_first: false };
        SortField::new_with_options(data_type.clone(), options)
    }

    /// Whether values of this type have an order.
    pub(super) fn orders(&self, data_type: &DataType) -> bool {
        !data_type.is_nested() && RowConverter::supports_fields(&[self.field(data_type)])
    }
}

/// What every entity ranks by, ready to compare.
pub(super) struct Ranked(Rows);

impl Ranked {
    /// Evaluates the expressions over all entities.
    pub(super) fn new(wide: &Wide, keys: &[RankKey], state: &SessionState, threads: usize) -> Result<Self> {
        let doing = || "cannot rank the people of an audience".to_owned();
        let columns: Vec<ArrayRef> =
            keys.iter().map(|key| wide.evaluate(state, key.expr.clone(), threads)).collect::<Result<_>>()?;
        let fields = keys.iter().zip(&columns).map(|(key, column)| key.field(column.data_type())).collect();
        let converter = RowConverter::new(fields).or_fail(ErrorKind::Failed, doing)?;
        Ok(Self(converter.convert_columns(&columns).or_fail(ErrorKind::Failed, doing)?))
    }

    /// How two entities rank.
    pub(super) fn compare(&self, left: u32, right: u32) -> Ordering {
        self.0.row(left as usize).cmp(&self.0.row(right as usize))
    }
}
