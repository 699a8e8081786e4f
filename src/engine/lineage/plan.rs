//! Lineage of plans, from the bound and unoptimised plan: what the author wrote, with nothing removed yet.
//!
//! Every kind of node is named, so that a new one breaks the build. For each node the flow of its inputs
//! becomes its own flow: what each column depends on, what decides which rows there are (the frame), and
//! what may decide their order. The order counts only where rows are picked by it: LIMIT, `first_value`,
//! `row_number` and the like. A relation that nobody sorted has an order that any of its columns may decide.
//!
//! A node that is not understood (an extension, EXPLAIN, a statement that is no query) depends on everything
//! below it, and so does one whose columns do not come out in the number that its schema says.

use super::Tables;
use super::flow::{Flow, Names, Refs, Scope, Sets};
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Join, Limit, LogicalPlan, RecursiveQuery, Sort, TableScan, Union, Unnest,
    Values, Window,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One analysis: names, and what recursive queries know of themselves so far.
pub(super) struct Analysis<'a> {
    tables: &'a Tables,
    /// The table that is analysed: its own plan is no reading of it.
    own: Option<&'a str>,
    pub names: Names,
    working: BTreeMap<String, Flow>,
}

impl<'a> Analysis<'a> {
    /// An analysis of the plan of `own`, over the tables that it can read.
    pub(super) fn new(tables: &'a Tables, own: Option<&'a str>) -> Self {
        Self { tables, own, names: Names::default(), working: BTreeMap::new() }
    }

    /// A table that is read as it is.
    pub(super) fn base<'n>(&mut self, name: &str, columns: impl Iterator<Item = &'n String>) -> Flow {
        let columns: Vec<u32> = columns.map(|c| self.names.number(name, c)).collect();
        let frame = Refs::from([self.names.number(name, crate::graph::ColumnRef::ROWS)]);
        Flow {
            order: columns.iter().copied().collect(),
            columns: columns.into_iter().map(|c| Sets::of_values(Refs::from([c]))).collect(),
            frame,
        }
    }

    /// The flow of a plan; `outer` is the query around a subquery.
    pub(super) fn plan(&mut self, plan: &LogicalPlan, outer: Option<&Scope<'_>>) -> Flow {
        if let Some(name) = self.tables.named(plan).filter(|n| Some(*n) != self.own) {
            return self.base(name, plan.schema().fields().iter().map(|f| f.name()));
        }
        let flow = self.node(plan, outer);
        let columns = plan.schema().fields().len();
        if flow.columns.len() == columns { flow } else { Flow::of_everything(self.everything(plan, outer), columns) }
    }

    fn node(&mut self, plan: &LogicalPlan, outer: Option<&Scope<'_>>) -> Flow {
        match plan {
            LogicalPlan::Projection(node) => {
                let input = self.plan(&node.input, outer);
                let columns = self.each(&node.expr, &Scope::new(node.input.schema(), &input, outer));
                Flow { columns, ..input }
            }
            LogicalPlan::Filter(node) => {
                let mut input = self.plan(&node.input, outer);
                let condition = self.sets(&node.predicate, &Scope::new(node.input.schema(), &input, outer));
                input.frame.extend(condition.all());
                input
            }
            LogicalPlan::Window(node) => self.window(node, outer),
            LogicalPlan::Aggregate(node) => self.aggregate(node, outer),
            LogicalPlan::Sort(node) => self.sort(node, outer),
            LogicalPlan::Join(node) => self.join(node, outer),
            // where rows are worked on changes no row; their order is that of nobody's sort
            LogicalPlan::Repartition(node) => {
                let mut input = self.plan(&node.input, outer);
                input.order.extend(input.of_columns());
                input
            }
            LogicalPlan::Union(node) => self.union(node, outer),
            LogicalPlan::TableScan(node) => self.scan(node, outer),
            LogicalPlan::EmptyRelation(node) => {
                Flow { columns: vec![Sets::default(); node.schema.fields().len()], ..Flow::default() }
            }
            LogicalPlan::Subquery(node) => self.plan(&node.subquery, outer),
            LogicalPlan::SubqueryAlias(node) => self.plan(&node.input, outer),
            LogicalPlan::Limit(node) => self.limit(node, outer),
            LogicalPlan::Values(node) => self.values(node, outer),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut input = self.plan(input, outer);
                input.frame.extend(input.of_columns());
                input
            }
            LogicalPlan::Distinct(Distinct::On(node)) => self.distinct_on(node, outer),
            LogicalPlan::Unnest(node) => self.unnest(node, outer),
            LogicalPlan::RecursiveQuery(node) => self.recursive(node, outer),
            // nothing is known of an extension; the others are no queries, and a model is refused for most of them
            LogicalPlan::Extension(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::DescribeTable(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_) => Flow::of_everything(self.everything(plan, outer), plan.schema().fields().len()),
        }
    }

    fn each(&mut self, exprs: &[Expr], scope: &Scope<'_>) -> Vec<Sets> {
        exprs.iter().map(|e| self.sets(e, scope)).collect()
    }

    /// All that a node, its expressions and what is around it depend on.
    fn everything(&mut self, plan: &LogicalPlan, outer: Option<&Scope<'_>>) -> Refs {
        let mut below = Flow::default();
        for input in plan.inputs() {
            below.frame.extend(self.plan(input, outer).everything());
        }
        // no column is found in an empty schema, so that each one is everything
        let scope = Scope::new(DFSchema::empty_ref(), &below, outer);
        let mut all = self.sets_of(&plan.expressions(), &scope).all();
        all.extend(scope.everything());
        all
    }

    fn window(&mut self, node: &Window, outer: Option<&Scope<'_>>) -> Flow {
        let mut input = self.plan(&node.input, outer);
        let mut computed = self.each(&node.window_expr, &Scope::new(node.input.schema(), &input, outer));
        input.order.extend(computed.iter().flat_map(|c| c.rows.iter()).copied());
        input.columns.append(&mut computed);
        input
    }

    fn aggregate(&mut self, node: &Aggregate, outer: Option<&Scope<'_>>) -> Flow {
        let input = self.plan(&node.input, outer);
        let scope = Scope::new(node.input.schema(), &input, outer);
        let sets_of_keys = matches!(node.group_expr.as_slice(), [Expr::GroupingSet(_)]);
        let keys: Vec<&Expr> = match node.group_expr.as_slice() {
            [Expr::GroupingSet(set)] => set.distinct_expr(),
            keys => keys.iter().collect(),
        };
        let mut columns: Vec<Sets> = keys.into_iter().map(|e| self.sets(e, &scope)).collect();
        // without keys there is one row, whatever the input
        let mut frame = Refs::new();
        if !node.group_expr.is_empty() {
            frame.extend(&input.frame);
            frame.extend(columns.iter().flat_map(Sets::all));
        }
        if sets_of_keys {
            // the number of the grouping set
            columns.push(Sets::default());
        }
        for expr in &node.aggr_expr {
            columns.push(self.sets(expr, &scope).with_rows(&input.frame));
        }
        Flow { columns, order: frame.clone(), frame }
    }

    fn sort(&mut self, node: &Sort, outer: Option<&Scope<'_>>) -> Flow {
        let mut input = self.plan(&node.input, outer);
        let scope = Scope::new(node.input.schema(), &input, outer);
        input.order = self.sets_of(node.expr.iter().map(|s| &s.expr), &scope).all();
        if node.fetch.is_some() {
            input.frame.extend(&input.order);
        }
        input
    }

    fn limit(&mut self, node: &Limit, outer: Option<&Scope<'_>>) -> Flow {
        let mut input = self.plan(&node.input, outer);
        let counts = node.skip.iter().chain(&node.fetch).map(|e| &**e);
        let counts = self.sets_of(counts, &Scope::new(node.input.schema(), &input, outer));
        input.frame.extend(counts.all());
        input.frame.extend(&input.order);
        input
    }

    /// The right side may be a lateral subquery, for which the left is around it.
    fn join(&mut self, node: &Join, outer: Option<&Scope<'_>>) -> Flow {
        let left = self.plan(&node.left, outer);
        let right = self.plan(&node.right, Some(&Scope::new(node.left.schema(), &left, outer)));
        let both = Flow {
            columns: left.columns.iter().chain(&right.columns).cloned().collect(),
            frame: left.frame.union(&right.frame).copied().collect(),
            order: left.order.union(&right.order).copied().collect(),
        };
        let matched = self.matched(node, [&left, &right], &both, outer);
        let mut decided = both.frame.clone();
        decided.extend(&matched);
        let order = both.order.union(&matched).copied().collect();
        let marked = |side: Flow| {
            // every row of the side stays once; the mark says whether it has a match
            let mut columns = side.columns;
            columns.push(Sets::of_rows(decided.clone()));
            (columns, side.frame)
        };
        let (columns, frame) = match node.join_type {
            // a row without a match stays, with nulls for the other side: its columns depend on what matches
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => (both.columns, decided),
            JoinType::LeftSemi | JoinType::LeftAnti => (left.columns, decided),
            JoinType::RightSemi | JoinType::RightAnti => (right.columns, decided),
            JoinType::LeftMark => marked(left),
            JoinType::RightMark => marked(right),
        };
        Flow { columns, frame, order }
    }

    /// What decides which rows match: the keys, each over its own side, and the condition over both.
    fn matched(&mut self, node: &Join, sides: [&Flow; 2], both: &Flow, outer: Option<&Scope<'_>>) -> Refs {
        let mut matched = Refs::new();
        for key in node.on.iter().flat_map(|(left, right)| [left, right]) {
            let mut known = false;
            for (side, flow) in [&node.left, &node.right].into_iter().zip(sides) {
                if key.column_refs().into_iter().all(|c| side.schema().maybe_index_of_column(c).is_some()) {
                    matched.extend(self.sets(key, &Scope::new(side.schema(), flow, outer)).all());
                    known = true;
                }
            }
            if !known {
                matched.extend(both.everything());
            }
        }
        let Some(filter) = &node.filter else { return matched };
        match node.left.schema().join(node.right.schema()) {
            Ok(schema) => matched.extend(self.sets(filter, &Scope::new(&schema, both, outer)).all()),
            Err(_) => matched.extend(self.sets(filter, &Scope::new(DFSchema::empty_ref(), both, outer)).all()),
        }
        matched
    }

    fn union(&mut self, node: &Union, outer: Option<&Scope<'_>>) -> Flow {
        let mut flows = node.inputs.iter().map(|i| self.plan(i, outer)).collect::<Vec<_>>().into_iter();
        let mut all = flows.next().unwrap_or_default();
        for flow in flows {
            all.unite(&flow);
        }
        all
    }

    fn scan(&mut self, node: &TableScan, outer: Option<&Scope<'_>>) -> Flow {
        let schema = node.source.schema();
        // a recursive query reads itself under its plain name
        let working = node.table_name.schema().is_none().then(|| self.working.get(node.table_name.table())).flatten();
        let mut flow = if let Some(working) = working {
            working.clone()
        } else if let Some(view) = node.source.get_logical_plan() {
            self.plan(&view, None)
        } else {
            let name = self.tables.name_of(node);
            self.base(&name, schema.fields().iter().map(|f| f.name()))
        };
        if !node.filters.is_empty() {
            let schema = DFSchema::try_from_qualified_schema(node.table_name.clone(), &schema);
            let schema = schema.map_or_else(|_| Arc::clone(DFSchema::empty_ref()), Arc::new);
            let conditions = self.sets_of(&node.filters, &Scope::new(&schema, &flow, outer));
            flow.frame.extend(conditions.all());
        }
        if node.fetch.is_some() {
            flow.frame.extend(&flow.order);
        }
        if let Some(projection) = &node.projection {
            flow.columns = projection.iter().filter_map(|i| flow.columns.get(*i).cloned()).collect();
        }
        flow
    }

    fn values(&mut self, node: &Values, outer: Option<&Scope<'_>>) -> Flow {
        let nothing = Flow::default();
        let scope = Scope::new(DFSchema::empty_ref(), &nothing, outer);
        let mut columns = vec![Sets::default(); node.schema.fields().len()];
        for row in &node.values {
            for (column, expr) in columns.iter_mut().zip(row) {
                column.take(&self.sets(expr, &scope));
            }
        }
        Flow { columns, ..Flow::default() }
    }

    fn distinct_on(&mut self, node: &DistinctOn, outer: Option<&Scope<'_>>) -> Flow {
        let input = self.plan(&node.input, outer);
        let scope = Scope::new(node.input.schema(), &input, outer);
        let keys = self.sets_of(&node.on_expr, &scope).all();
        let picked = match &node.sort_expr {
            Some(sort) => self.sets_of(sort.iter().map(|s| &s.expr), &scope).all(),
            None => input.order.clone(),
        };
        let columns = self.each(&node.select_expr, &scope).into_iter().map(|c| c.with_rows(&picked)).collect();
        let frame = input.frame.union(&keys).copied().collect();
        Flow { columns, frame, order: keys.union(&picked).copied().collect() }
    }

    fn unnest(&mut self, node: &Unnest, outer: Option<&Scope<'_>>) -> Flow {
        let input = self.plan(&node.input, outer);
        let of = |index: &usize| input.columns.get(*index).cloned().unwrap_or_default();
        let columns = node.dependency_indices.iter().map(of).collect();
        // a list gives as many rows as it is long; a struct gives columns only
        let lists = node.list_type_columns.iter().flat_map(|(index, _)| of(index).all());
        let frame = input.frame.iter().copied().chain(lists).collect();
        Flow { columns, frame, order: input.order.clone() }
    }

    /// Grows until a further round adds nothing: sets only grow, and there are finitely many columns.
    fn recursive(&mut self, node: &RecursiveQuery, outer: Option<&Scope<'_>>) -> Flow {
        let mut flow = self.plan(&node.static_term, outer);
        loop {
            let around = self.working.insert(node.name.clone(), flow.clone());
            let step = self.plan(&node.recursive_term, outer);
            match around {
                Some(around) => self.working.insert(node.name.clone(), around),
                None => self.working.remove(&node.name),
            };
            let mut next = flow.clone();
            next.unite(&step);
            if node.is_distinct {
                next.frame.extend(next.of_columns());
            }
            if next == flow {
                return flow;
            }
            flow = next;
        }
    }
}
