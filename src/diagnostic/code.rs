//! Stable codes of findings, with the text that `kinfold explain` and docs/errors.md show.
//!
//! A code never changes its meaning and is never given again. Groups: K00 project and files, K01 shape of
//! YAML, K02 names and references, K03 SQL, K04 graph, K05 data and sources, K06 identity, K07 profile and
//! audience, K08 sync, K09 not in this version, K10 privacy. One table is the only source: the enum, the strings and
//! [`CODES`] are made from it.

use std::fmt;

/// What a code means, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeText {
    /// The code.
    pub code: Code,
    /// One line.
    pub title: &'static str,
    /// Why it is said.
    pub cause: &'static str,
    /// What brings it about.
    pub example: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($name:ident $text:literal { title: $title:literal, cause: $cause:literal, example: $example:literal, fix: $fix:literal })*) => {
        /// A stable code of a finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// The code as people see it, such as `K0102`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        /// The text of every code, in the order of the codes.
        pub static CODES: &[CodeText] = &[
            $(CodeText { code: Code::$name, title: $title, cause: $cause, example: $example, fix: $fix },)*
        ];
    };
}

impl Code {
    /// The code that is written so; case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        CODES.iter().map(|c| c.code).find(|c| c.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether it is said by a policy and not by a mistake of the language.
    pub fn is_policy(self) -> bool {
        matches!(self, Self::PolicyRefused | Self::UnlabelledColumn)
    }

    /// Its text.
    pub fn text(self) -> Option<&'static CodeText> {
        CODES.iter().find(|c| c.code == self)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

codes! {
    ProjectFileMissing "K0001" {
        title: "the project has no sources.yaml",
        cause: "a project is a folder with a `sources.yaml`; none was found where Kinfold looked",
        example: "running `kinfold check` one folder too high",
        fix: "go to the project's folder, name it with `--project`, or make a new one with `kinfold init`"
    }
    FileUnreadable "K0002" {
        title: "a project file cannot be read",
        cause: "the file or folder exists, but the system refuses to read it",
        example: "a model file without read permission",
        fix: "give read permission, or move the file out of `models/`"
    }
    NotUtf8 "K0003" {
        title: "a project file is not UTF-8",
        cause: "project files are UTF-8 text; these bytes are something else",
        example: "a file saved as Latin-1 or UTF-16 by an editor",
        fix: "save the file as UTF-8"
    }
    FileTooLarge "K0004" {
        title: "a project file is too large",
        cause: "definitions are small; a file above the limit is data in the wrong place, or hostile",
        example: "a CSV export saved as `models/x.yaml`",
        fix: "move data to a source, or split the file"
    }
    EnvironmentMissing "K0005" {
        title: "an environment variable is not set",
        cause: "the text uses `${NAME}` without a default and the environment has no NAME",
        example: "location: \"${CLINIC_DATA}/web\"",
        fix: "set the variable, or write a default: `${NAME:-value}`"
    }
    EnvironmentSyntax "K0006" {
        title: "a `${...}` cannot be read",
        cause: "`${NAME}` and `${NAME:-default}` are understood; names have letters, digits and `_`",
        example: "location: \"${CLINIC-DATA}\"",
        fix: "correct the name, or write `$${` where you mean the characters `${`"
    }
    UnknownTarget "K0007" {
        title: "no such target",
        cause: "`--target` or `target:` names something that `targets:` in kinfold.yaml does not define",
        example: "kinfold run --target prodd",
        fix: "use a defined target, or define it in kinfold.yaml"
    }
    ListFileMissing "K0008" {
        title: "a file that a model names does not exist",
        cause: "`rules`, `block_file`, `include` and `exclude` name CSV files, relative to the project",
        example: "rules: patient_rules.csv, when the file is models/patient_rules.csv",
        fix: "correct the path; it starts at the project's folder, not at the model's"
    }
    ListFileRow "K0009" {
        title: "a row of a list file cannot be used",
        cause: "the row has too few columns, an empty field, or a word that has no meaning there",
        example: "sometimes,mrn:1,mrn:2,same name,ann,2025-01-01",
        fix: "correct the row as the message says"
    }
    DefinesNothing "K0010" {
        title: "a file in models/ defines nothing",
        cause: "a YAML document there needs `kind:`, unless a .sql file of the same name lies beside it",
        example: "models/notes.yaml with only `description:`",
        fix: "add `kind:`, add the .sql file, or move the file out of `models/`"
    }
    YamlSyntax "K0101" {
        title: "the text is not valid YAML",
        cause: "quotes, brackets or indentation do not fit; nothing else in this file could be checked",
        example: "where: status: open",
        fix: "quote text that holds `: `, ` #`, or starts with one of ` > | * & ! % @ [ {"
    }
    UnknownKey "K0102" {
        title: "a key that has no meaning here",
        cause: "every key is checked, because a misspelt one would be ignored in silence",
        example: "tabels: [...]",
        fix: "use one of the keys that the message lists"
    }
    MissingKey "K0103" {
        title: "a required key is missing",
        cause: "the definition cannot mean anything without it",
        example: "{kind: profile, name: p}, without `identity`",
        fix: "add the key"
    }
    WrongType "K0104" {
        title: "a value of the wrong type",
        cause: "the key wants another sort of value: text, a number, true or false, a list or a mapping",
        example: "enabled: yes",
        fix: "write a value of the type that the message names"
    }
    UnknownWord "K0105" {
        title: "a word that is not one of the choices",
        cause: "the key takes one of a few fixed words",
        example: "format: parkett",
        fix: "use one of the words that the message lists"
    }
    DuplicateKey "K0106" {
        title: "a key is written twice",
        cause: "only one of the two could be used, and which one would be a guess",
        example: "{name: a, name: b}",
        fix: "remove or rename one"
    }
    MergeKey "K0107" {
        title: "merge keys are not read",
        cause: "`<<` copies keys from elsewhere, so that an error could not be shown where it is",
        example: "<<: *defaults",
        fix: "write the keys out"
    }
    BadDuration "K0108" {
        title: "not a length of time",
        cause: "a length is a whole number and a unit from microseconds to weeks; months and years differ in length",
        example: "within: 1 month",
        fix: "write `30 days`, `24 hours`, `90 minutes`, `1 week`"
    }
    BadComparison "K0109" {
        title: "not a comparison with a number",
        cause: "a measure is compared with a number by one of = <> < <= > >=",
        example: "count: more than 2",
        fix: "write `count: '> 2'`, or `sum: 'amount >= 100'`"
    }
    BadTime "K0110" {
        title: "not a date or time",
        cause: "a date is YYYY-MM-DD; a time adds THH:MM:SS and, if it is not in the project's zone, Z or +HH:MM",
        example: "before: 01.02.2025",
        fix: "write `2025-02-01` or `2025-02-01T00:00:00Z`"
    }
    BadPattern "K0111" {
        title: "not a regular expression",
        cause: "text between slashes is a pattern (Rust regex syntax, without look-around)",
        example: "block: ['/(test/']",
        fix: "correct the pattern; escape special characters with `\\`"
    }
    OutOfRange "K0112" {
        title: "a number or window out of its range",
        cause: "the value is of the right type but makes no sense here",
        example: "max_links: 0",
        fix: "use a value in the range that the message gives"
    }
    Empty "K0113" {
        title: "nothing where something is needed",
        cause: "an empty text, list or mapping would select nothing, or everything, by accident",
        example: "all: []",
        fix: "fill it, or remove the key"
    }
    Conflict "K0114" {
        title: "keys that exclude each other",
        cause: "the two say different things about the same matter",
        example: "{where: {...}, sql: select ...}",
        fix: "keep one; combine conditions with `all:` or `any:`"
    }
    NoMeaning "K0115" {
        title: "a key that does nothing in this place",
        cause: "the key exists, but here it would change nothing, which is hardly what was meant",
        example: "`pick` on the second step of a sequence",
        fix: "remove it, or move it to where it counts"
    }
    Template "K0116" {
        title: "a template cannot be rendered",
        cause: "the text between {{ }} or {% %} is wrong, or uses a name or variable that does not exist",
        example: "{{ reff('patient') }}",
        fix: "use ref, source, var or a macro of macros/; set variables under `vars:` or with --vars"
    }
    YamlLimit "K0117" {
        title: "a YAML file beyond its limits",
        cause: "too many nodes, aliases or levels: a definition never needs that many, a hostile file does",
        example: "aliases of aliases of aliases",
        fix: "write the values out, or split the file"
    }
    TestShape "K0118" {
        title: "an entry of `tests:` that is not one test",
        cause: "each entry names one kind of test with what it needs; none, several or half a one cannot be run",
        example: "tests: [{severity: warn}]",
        fix: "write one test an entry, such as `{unique: id}` or `{accepted_values: {column: c, values: [a]}}`"
    }
    TestRows "K0119" {
        title: "rows of a unit test that cannot be read",
        cause: "rows are a list of mappings from column to value, or CSV text with a header line",
        example: "given: {web.tracks: [u1, u2]}",
        fix: "write rows like `- {user_id: u1, timestamp: 2026-01-01}`, or `csv: |` with a header"
    }
    BadName "K0201" {
        title: "not a name",
        cause: "names become tables and columns in every engine: `a` to `z`, digits and `_`, not starting with a digit",
        example: "name: Patient-Profile",
        fix: "write it as the message proposes"
    }
    DuplicateName "K0202" {
        title: "two things have the same name",
        cause: "models share one name space; so do the tables of a source and the columns of a profile",
        example: "two model files with `name: patient`",
        fix: "rename one of them"
    }
    UnknownTable "K0203" {
        title: "no such table",
        cause: "the name is neither `source.table` of sources.yaml nor a model",
        example: "from: web.trakcs",
        fix: "correct the name, or add the table to sources.yaml"
    }
    UnknownReference "K0204" {
        title: "no such model or destination",
        cause: "the name is not defined in this project",
        example: "profile: patient_profil",
        fix: "correct the name, or define it"
    }
    DisabledReference "K0205" {
        title: "something that is switched off is used",
        cause: "what says `enabled: false` is not read, so nothing can be made from it",
        example: "from: twilio.messages, when that table says `enabled: false`",
        fix: "enable it, or remove the use"
    }
    UnknownIdentifier "K0206" {
        title: "no such identifier type",
        cause: "the type is not among `identifiers:` of the identity",
        example: "ids: {e_mail: email}",
        fix: "correct the type, or add it to `identifiers:`"
    }
    WrongKind "K0207" {
        title: "a model of another kind is needed",
        cause: "the name exists, but is not the kind of model that belongs here",
        example: "profile: patient, where `patient` is an identity",
        fix: "name a model of the kind that the message asks for"
    }
    ReservedName "K0208" {
        title: "a name that Kinfold's own tables or columns use",
        cause: "models write tables beside their main one (`patient_links`, `audience_sizes`); a name may not meet them",
        example: "a model `patient_links` beside the identity `patient`",
        fix: "choose another name"
    }
    SqlSyntax "K0301" {
        title: "the SQL cannot be parsed",
        cause: "a word or sign stands where the SQL grammar does not allow it",
        example: "select count(* from web.tracks",
        fix: "correct the SQL at the mark"
    }
    SqlUnknownTable "K0302" {
        title: "the SQL reads a table that does not exist",
        cause: "the name is neither `source.table` nor a model",
        example: "select * from web.trakcs",
        fix: "correct the name, or add the table to sources.yaml"
    }
    SqlUnknownColumn "K0303" {
        title: "the SQL uses a column that does not exist",
        cause: "no table in reach has such a column",
        example: "where evnt = 'Login'",
        fix: "correct the name; `kinfold show TABLE` lists columns"
    }
    SqlBinding "K0304" {
        title: "the SQL does not fit its data",
        cause: "types, arguments or grouping do not match what the tables hold",
        example: "sum(event)",
        fix: "cast, or use another function, as the message says"
    }
    SqlNow "K0305" {
        title: "the SQL depends on the wall clock",
        cause: "`now()` and its like give another result at each run, so a run cannot be repeated",
        example: "where at > now() - interval '7 days'",
        fix: "use `as_of()`, the run's logical time"
    }
    SqlUnknownFunction "K0306" {
        title: "the SQL calls a function that does not exist",
        cause: "no function of this name is known here; databases call the same thing by different names",
        example: "uper(email)",
        fix: "correct the name, or write what the message proposes"
    }
    SqlArguments "K0307" {
        title: "a function does not take these arguments",
        cause: "there are too many, too few, or of a type that the function has no use for",
        example: "upper(email, phone)",
        fix: "look at number, order and types of the arguments; cast with `CAST` or `try_cast`"
    }
    SqlTypes "K0308" {
        title: "types that do not fit together",
        cause: "the two sides of an operator, or the branches of a CASE or UNION, have types that share no meaning",
        example: "duration + 1, where duration is text",
        fix: "cast one side: `try_cast(duration AS BIGINT) + 1`"
    }
    SqlGrouping "K0309" {
        title: "single rows and groups are mixed",
        cause: "an aggregate stands where single rows are looked at, or a column of single rows beside an aggregate",
        example: "select email, count(*) from web.tracks",
        fix: "add the column to GROUP BY, aggregate it, or move the condition to HAVING"
    }
    SqlAmbiguousColumn "K0310" {
        title: "a column that several tables have",
        cause: "more than one table of the query has a column of this name",
        example: "select email from a join b on a.id = b.id",
        fix: "write the table before the column: `a.email`"
    }
    SqlDuplicateColumn "K0311" {
        title: "result columns that cannot be told apart",
        cause: "a result becomes a table, whose columns need names that differ, also in lower case",
        example: "select * from a join b on a.id = b.id",
        fix: "name the columns, and give each a name of its own with AS"
    }
    ConstantCondition "K0312" {
        title: "a SQL condition that decides nothing",
        cause: "whatever the rows hold, it is always true, or never",
        example: "where: amount > 5 AND amount < 3",
        fix: "correct the condition, or remove it"
    }
    SqlLimit "K0313" {
        title: "SQL beyond its limits",
        cause: "brackets are nested too deeply, or too many operators stand in one row, for a query that a person reads",
        example: "x = 1 OR x = 2 OR ..., a thousand times",
        fix: "write lists as `x IN (1, 2)`, values as a table that is joined, steps as WITH queries"
    }
    NotIncremental "K0314" {
        title: "a SQL model that cannot grow key by key",
        cause: "a run makes only the keys again that new rows touch, so the rows of a key must depend on no other key's rows",
        example: "unique_key: day, over a query with `ORDER BY visits LIMIT 10`",
        fix: "carry the key through GROUP BY, PARTITION BY and joins, or write `materialized: table`"
    }
    Cycle "K0401" {
        title: "models depend on each other in a circle",
        cause: "none of them can be made first",
        example: "a.sql reads b, b.sql reads a",
        fix: "break the circle at one of the references that the message lists"
    }
    UnusedTable "K0402" {
        title: "a source table that nothing reads",
        cause: "other tables of its source are read, so this one may have been forgotten, or be left over",
        example: "a table `pages` in sources.yaml that no model names",
        fix: "use it in a model, or say `enabled: false` to keep its definition"
    }
    UnusedView "K0403" {
        title: "a view that nothing reads",
        cause: "a view is expanded into the models that read it; without them it makes nothing",
        example: "a model with `materialized: view` that no model names",
        fix: "read it in a model, make it a table, or remove it"
    }
    NoFiles "K0501" {
        title: "a table has no files",
        cause: "nothing lies at the table's location and path",
        example: "path: trakcs/",
        fix: "correct `location` or `path`, or set `enabled: false`"
    }
    DataUnreadable "K0502" {
        title: "a data file cannot be read",
        cause: "the file is damaged, half written or of another format",
        example: "a Parquet file whose upload was cut short",
        fix: "replace or remove the file, or correct `format`"
    }
    SchemaDiffers "K0503" {
        title: "files of one table disagree about a column",
        cause: "the column has types that do not fit together",
        example: "`id` is a number in one file and text in another",
        fix: "declare the type under `columns:`, or split the table by `path`"
    }
    ColumnMissingInFiles "K0504" {
        title: "some files lack a column",
        cause: "older or newer files were written without it; its value is null for their rows",
        example: "`specialty` exists only in files since June",
        fix: "nothing, if null is right; else split the table by `path`"
    }
    NoRows "K0505" {
        title: "a table has no rows",
        cause: "its files are there but empty, or `select` keeps nothing",
        example: "select: {where: 1 = 0}",
        fix: "check the export and `select`"
    }
    DeclaredColumnMissing "K0506" {
        title: "a declared column is not in the data",
        cause: "`time`, `row_id`, `version`, `dedupe`, `select` or `columns` names a column that no file has",
        example: "time: timestmap",
        fix: "correct the name; `kinfold show TABLE` lists columns"
    }
    UnknownType "K0507" {
        title: "not a SQL type",
        cause: "`type:` of a column takes a SQL type",
        example: "type: strng",
        fix: "use TEXT, BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP or DECIMAL(p, s)"
    }
    SchemaDrift "K0508" {
        title: "the data no longer have the columns of schemas.lock",
        cause: "columns came, went or changed their type since somebody ran `kinfold sources refresh`",
        example: "the export renamed `specialty` to `speciality`",
        fix: "see what reads the columns that the message lists, then run `kinfold sources refresh` and commit schemas.lock"
    }
    DeltaUnreadable "K0509" {
        title: "a Delta table cannot be read",
        cause: "its log makes no sense, or it uses what cannot be read from Parquet files alone: deletion vectors, column mapping, files of another table",
        example: "format: delta, for a table with `delta.columnMapping.mode = name`",
        fix: "do as the message says: rewrite the table without the feature, or repair its log with the program that writes it"
    }
    TestColumn "K0510" {
        title: "a test names a column that its table does not have",
        cause: "data tests, and the expected rows of unit tests, can only look at columns that are there",
        example: "tests: [{unique: idd}]",
        fix: "correct the name; `kinfold show TABLE` lists columns"
    }
    TestValue "K0511" {
        title: "a test compares values that do not fit",
        cause: "the value cannot be read in the type of its column, or the two columns have types of different sorts",
        example: "accepted_values: {column: amount, values: [high]}",
        fix: "write values of the column's type, or cast in an `expression`"
    }
    TestCircle "K0512" {
        title: "a data test reads a model that waits for the test",
        cause: "what reads a table is built after the table's tests, so such a test could never run",
        example: "a test of `patient` that reads `patient_profile`, which is made from it",
        fix: "write the test at the later model"
    }
    RuleContradiction "K0601" {
        title: "rules demand and forbid the same thing",
        cause: "one pair of identifiers is under both `never` and `always`",
        example: "never,mrn:1,mrn:2 and always,mrn:2,mrn:1",
        fix: "remove the row that is wrong"
    }
    IdentifierNeverLinked "K0602" {
        title: "an identifier type that no link gives",
        cause: "no entry of `links:` has it under `ids:`, so it will never have a value",
        example: "identifiers: {fax: {}} without a link that gives fax",
        fix: "add it to a link, or remove it"
    }
    BadNormalize "K0603" {
        title: "not a normaliser",
        cause: "`normalize` is none, trim, lower, email, digits, phone(REGION) or SQL over `value`",
        example: "normalize: phone(USA)",
        fix: "use one of them; a region has two letters (ISO 3166)"
    }
    IdentifierAlone "K0604" {
        title: "an identifier that joins nothing",
        cause: "in every link it stands alone, so no row says that it and another identifier are one entity",
        example: "ids: {phone: phone} in every link that has `phone`",
        fix: "add an identifier that stands in the same rows to one of its links"
    }
    RuleOfNobody "K0605" {
        title: "a rule over an identifier that never identifies anyone",
        cause: "a value of the rule is blocked, so no row has it as an identifier",
        example: "never,email:unknown@example.com,mrn:2 with `block: [unknown@example.com]`",
        fix: "remove the rule, or the block"
    }
    OtherEntity "K0701" {
        title: "an audience of other entities",
        cause: "the audience is over another identity, so their members cannot be compared",
        example: "a patients' audience with `audience: good_doctors`",
        fix: "use an audience over the same identity"
    }
    WindowWithoutTime "K0702" {
        title: "a window over a table without a time",
        cause: "windows, sequences and picking the latest or earliest value need the time of each row",
        example: "within: 7 days over a table without `time:`",
        fix: "add `time:` to the table in sources.yaml (or to the trait, for a model)"
    }
    BadSequence "K0703" {
        title: "a sequence that has no anchor",
        cause: "the first step says where the sequence starts, so it must be an event that happened",
        example: "sequence: [{not: {event: ...}}, ...]",
        fix: "start with an event; move the `not` step behind it"
    }
    NeverHolds "K0704" {
        title: "a condition that can never hold",
        cause: "no number fits the comparison, two conditions exclude each other, or a `not` step waits for a window without end",
        example: "count: '< 0'; or a step `- not: {event: web.tracks, is: Booked}`",
        fix: "correct the number; give a `not` step `within:`, or `open: true` to mean \"not yet\""
    }
    AlwaysHolds "K0705" {
        title: "a condition that always holds",
        cause: "every entity fulfils it, so it selects nobody in particular",
        example: "count: '>= 0'",
        fix: "correct the number, or remove the condition"
    }
    GroupPriority "K0706" {
        title: "two audiences of a group with one priority",
        cause: "the audiences of a group share no person, and the one with the lower number wins; with equal numbers the winner would be a guess",
        example: "group: {name: one_message, priority: 1} in two audiences",
        fix: "give one of them another number"
    }
    SyncColumns "K0801" {
        title: "a sync's columns cannot be used",
        cause: "columns are listed one by one, so that nothing is sent by accident",
        example: "columns: {everything: '*'}",
        fix: "list each destination column with its expression"
    }
    Destination "K0802" {
        title: "a destination cannot be used like this",
        cause: "a service that deletes nothing cannot mirror, a form has the fields of one row, an address has its own beginning",
        example: "mode: mirror to an `http` destination without `delete`",
        fix: "change what the label points at, or choose another mode or destination"
    }
    NoEffect "K0902" {
        title: "no effect in this version",
        cause: "the key is part of the language and harmless to ignore; this version ignores it",
        example: "freshness: {warn_after: 24h}",
        fix: "nothing, or remove it to silence the warning"
    }
    PolicyRefused "K1001" {
        title: "a destination would get what it may not",
        cause: "labels follow the data from source columns to the sync; the destination's policy does not allow this one",
        example: "columns: {email: email} to a destination with `allow: [pseudonym]`",
        fix: "leave it out, lower it by a function such as hmac_sha256, or change the policy; `kinfold labels` shows the map"
    }
    UnlabelledColumn "K1002" {
        title: "a column without a label would reach a destination",
        cause: "its source says `labels: required`, so that nothing leaves before somebody has looked at it",
        example: "a new column of an export, sent by a sync",
        fix: "give the column a label in sources.yaml, or `label: none`"
    }
    BadLabel "K1003" {
        title: "a label that cannot be meant",
        cause: "labels are names with dots between them; some are given by Kinfold only; `declassify` names columns that exist",
        example: "label: E-Mail",
        fix: "write it like `identity.email`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_and_well_formed() {
        let texts: Vec<_> = CODES.iter().map(|c| c.code.as_str()).collect();
        let mut sorted = texts.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(texts, sorted);
        assert!(texts.iter().all(|t| t.len() == 5 && t.starts_with('K') && t[1..].chars().all(|c| c.is_ascii_digit())));
    }

    #[test]
    fn every_text_is_filled_and_short() {
        for text in CODES {
            for part in [text.title, text.cause, text.example, text.fix] {
                assert!(!part.is_empty() && part.len() <= 140 && !part.ends_with('.'), "{}: {part}", text.code);
            }
            assert_eq!(text.code.text(), Some(text));
        }
    }

    #[test]
    fn codes_are_parsed_in_any_case() {
        assert_eq!(Code::parse("k0102"), Some(Code::UnknownKey));
        assert_eq!(Code::parse("K9999"), None);
    }
}
