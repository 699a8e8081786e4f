//! Aggregates that see their rows in an order: `string_agg(page, ',' ORDER BY at)`, `array_agg`, `first_value`.
//!
//! A marker, not a function: it stands for another aggregate whose last arguments are the order's keys, so that they
//! are projected like any argument. The fold takes it apart ([`Ordered::apart`]) and never runs it.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use std::sync::Arc;

/// Aggregates whose result depends on the order of their rows.
const SEE_ORDER: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

/// Another aggregate, and how its last arguments order its rows.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ordered {
    function: Arc<AggregateUDF>,
    /// Ascending, and nulls first, by key.
    keys: Vec<(bool, bool)>,
    nulls: Option<NullTreatment>,
    signature: Signature,
}

impl Ordered {
    /// The arguments of a call and the keys of its order, where the order matters; `default` orders a call that names
    /// none. Equal keys are ordered by what is aggregated, so that the result never depends on where rows lie.
    pub(crate) fn of(call: &AggregateFunction, default: &[Expr]) -> Option<(Self, Vec<Expr>)> {
        let params = &call.params;
        // the order of `WITHIN GROUP` is what is aggregated
        let within = call.func.supports_within_group_clause();
        let sees = SEE_ORDER.contains(&call.func.name());
        if !(sees || within && !params.order_by.is_empty()) {
            return None;
        }
        let mut sorts = params.order_by.clone();
        if sorts.is_empty() && !params.distinct {
            sorts.extend(default.iter().map(|key| key.clone().sort(true, false)));
        }
        if !within {
            let columns = params.args.iter().filter(|argument| !matches!(argument, Expr::Literal(..)));
            let ties: Vec<Sort> = columns
                .filter(|argument| !sorts.iter().any(|sort| sort.expr == **argument))
                .map(|argument| argument.clone().sort(true, false))
                .collect();
            sorts.extend(ties);
        }
        let marker = Self {
            function: Arc::clone(&call.func),
            keys: sorts.iter().map(|sort| (sort.asc, sort.nulls_first)).collect(),
            nulls: params.null_treatment,
            signature: Signature::variadic_any(Volatility::Immutable),
        };
        Some((marker, params.args.iter().cloned().chain(sorts.into_iter().map(|sort| sort.expr)).collect()))
    }

    /// How many of these arguments are aggregated; the others are keys.
    pub(crate) fn aggregated(&self, arguments: usize) -> usize {
        arguments.saturating_sub(self.keys.len())
    }

    /// The call that it stands for.
    pub(crate) fn apart(&self, mut arguments: Vec<Expr>, distinct: bool, filter: Option<Expr>) -> AggregateFunction {
        let keys = arguments.split_off(self.aggregated(arguments.len()));
        let sort = |(key, (asc, nulls_first)): (Expr, &(bool, bool))| key.sort(*asc, *nulls_first);
        let order = keys.into_iter().zip(&self.keys).map(sort).collect();
        AggregateFunction::new_udf(
            Arc::clone(&self.function),
            arguments,
            distinct,
            filter.map(Box::new),
            order,
            self.nulls,
        )
    }
}

impl AggregateUDFImpl for Ordered {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.get(..self.aggregated(arg_types.len())) {
            Some(aggregated) => self.function.return_type(aggregated),
            None => plan_err!("an ordered aggregate has fewer arguments than keys"),
        }
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        exec_err!("an ordered aggregate was not taken apart")
    }
}
