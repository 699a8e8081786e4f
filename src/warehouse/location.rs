//! Where data are: a folder on disk or a prefix of a bucket.
//!
//! Parsing is pure and lexical: nothing is opened, links are not followed, `..` is taken away before
//! the path is used. A location says where; [`Location::object_store`] makes the client, from the
//! environment that the caller passes in.

use super::retry::Retrying;
use crate::error::{Context, Error, ErrorKind, Result};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, PathBuf};
use std::sync::Arc;
use url::Url;

/// Environment variables that reach storage clients: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ALLOW_HTTP`. Others are ignored.
pub type Environment = BTreeMap<String, String>;

/// A place that holds files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// An absolute path on disk.
    Folder(PathBuf),
    /// `s3://bucket/prefix`.
    Bucket {
        /// The bucket.
        bucket: String,
        /// Keys below it, without slashes at the ends; may be empty.
        prefix: String,
    },
}

impl Location {
    /// Reads a location as an author writes it: a path (relative ones start at `base_dir`), `file://…` or
    /// `s3://bucket/prefix`.
    ///
    /// # Errors
    /// `Usage` when the text is empty, is no valid URL, or names a store that this build cannot reach.
    pub fn parse(text: &str, base_dir: &std::path::Path) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "the location is empty")
                .with_help("give a folder such as `data/` or a URL such as `s3://bucket/prefix`"));
        }
        match text.split_once("://") {
            None => Self::folder(&base_dir.join(text)),
            Some(("file", _)) => {
                let url = Url::parse(text).or_fail(ErrorKind::Usage, || format!("`{text}` is not a valid URL"))?;
                let path = url.to_file_path().map_err(|()| {
                    Error::new(ErrorKind::Usage, format!("`{text}` is not a local file URL"))
                        .with_help("write it with three slashes: `file:///folder`")
                })?;
                Self::folder(&path)
            }
            Some(("s3" | "s3a", rest)) => Self::bucket(text, rest),
            Some((scheme, _)) => Err(unsupported(text, scheme)),
        }
    }

    fn folder(path: &std::path::Path) -> Result<Self> {
        let absolute = std::path::absolute(path)
            .or_fail(ErrorKind::Usage, || format!("`{}` cannot be made an absolute path", path.display()))?;
        let mut clean = PathBuf::new();
        for component in absolute.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => {
                    clean.pop();
                }
                other => clean.push(other),
            }
        }
        Ok(Self::Folder(clean))
    }

    fn bucket(text: &str, rest: &str) -> Result<Self> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named =
            !bucket.is_empty() && bucket.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if !named {
            return Err(Error::new(ErrorKind::Usage, format!("`{text}` names no bucket"))
                .with_help("write `s3://bucket/prefix`; credentials come from the environment, not from the URL"));
        }
        let prefix = Path::parse(prefix.trim_matches('/'))
            .or_fail(ErrorKind::Usage, || format!("`{text}` has an invalid prefix"))?;
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.as_ref().to_owned() })
    }

    /// A place below this one; `relative` uses forward slashes.
    ///
    /// # Errors
    /// `Usage` when `relative` is not a valid path.
    pub fn join(&self, relative: &str) -> Result<Self> {
        match self {
            Self::Folder(path) => Self::folder(&path.join(relative)),
            Self::Bucket { bucket, prefix } => {
                let relative = relative.trim_matches('/');
                let joined = if prefix.is_empty() { relative.to_owned() } else { format!("{prefix}/{relative}") };
                Self::bucket(&format!("s3://{bucket}/{joined}"), &format!("{bucket}/{joined}"))
            }
        }
    }

    /// The store at its root (the whole disk or the whole bucket) and the path of this location in it.
    /// Nothing is contacted yet.
    ///
    /// # Errors
    /// `Usage` when the environment's settings contradict each other or the path cannot be expressed.
    pub fn object_store(&self, environment: &Environment) -> Result<(Arc<dyn ObjectStore>, Path)> {
        match self {
            Self::Folder(path) => {
                let prefix = Path::from_absolute_path(path)
                    .or_fail(ErrorKind::Usage, || format!("`{}` cannot be used as a location", path.display()))?;
                Ok((Arc::new(Retrying::new(Arc::new(LocalFileSystem::new()))), prefix))
            }
            Self::Bucket { bucket, prefix } => {
                let store = s3(bucket, environment)?;
                Ok((store, Path::from(prefix.as_str())))
            }
        }
    }

    /// URL of the store's root, for registries keyed by URL: `file:///` or `s3://bucket/`.
    pub fn root_url(&self) -> Result<Url> {
        let text = match self {
            Self::Folder(_) => "file:///".to_owned(),
            Self::Bucket { bucket, .. } => format!("s3://{bucket}/"),
        };
        Url::parse(&text).or_fail(ErrorKind::Usage, || format!("`{text}` is not a valid URL"))
    }

    /// URL of this location; ends with a slash.
    ///
    /// # Errors
    /// `Usage` when the path cannot be a URL.
    pub fn url(&self) -> Result<Url> {
        match self {
            Self::Folder(path) => Url::from_directory_path(path)
                .map_err(|()| Error::new(ErrorKind::Usage, format!("`{}` cannot be written as a URL", path.display()))),
            Self::Bucket { bucket, prefix } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                let text = format!("s3://{bucket}/{prefix}{slash}");
                Url::parse(&text).or_fail(ErrorKind::Usage, || format!("`{text}` is not a valid URL"))
            }
        }
    }

    /// Whether it is on this machine's disk.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Folder(_))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

fn s3(bucket: &str, environment: &Environment) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
    for (name, value) in environment {
        let name = name.to_ascii_lowercase();
        // A bucket of the environment must not replace the one in the location.
        if !name.starts_with("aws_") || name.contains("bucket") {
            continue;
        }
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    // An endpoint that the user wrote as http:// is meant: local test servers have no certificate.
    let endpoint = environment.get("AWS_ENDPOINT_URL").or_else(|| environment.get("AWS_ENDPOINT"));
    if endpoint.is_some_and(|e| e.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    let store = builder.build().map_err(|e| {
        Error::new(ErrorKind::Usage, format!("the S3 client for bucket `{bucket}` cannot be set up"))
            .caused_by(e)
            .with_help("check AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    })?;
    Ok(Arc::new(store))
}

fn unsupported(text: &str, scheme: &str) -> Error {
    let known = matches!(scheme, "gs" | "gcs" | "az" | "abfs" | "abfss" | "http" | "https");
    let message = if known {
        format!("`{text}`: {scheme}:// is not built in")
    } else {
        format!("`{text}`: unknown kind of location `{scheme}://`")
    };
    Error::new(ErrorKind::Usage, message).with_help("use a folder, file:///folder or s3://bucket/prefix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location> {
        Location::parse(text, std::path::Path::new("/project/models"))
    }

    #[test]
    fn paths_start_at_the_base_and_lose_their_dots() {
        assert_eq!(parse("../data/./raw/").unwrap(), Location::Folder("/project/data/raw".into()));
        assert_eq!(parse("/abs").unwrap(), Location::Folder("/abs".into()));
        assert_eq!(parse("file:///a%20b/c").unwrap(), Location::Folder("/a b/c".into()));
    }

    #[test]
    fn buckets_keep_their_prefix_without_slashes() {
        let location = parse("s3://bucket/a/b/").unwrap();
        assert_eq!(location, Location::Bucket { bucket: "bucket".into(), prefix: "a/b".into() });
        assert_eq!(location.url().unwrap().as_str(), "s3://bucket/a/b/");
        assert_eq!(location.to_string(), "s3://bucket/a/b");
        assert_eq!(parse("s3://bucket").unwrap().url().unwrap().as_str(), "s3://bucket/");
    }

    #[test]
    fn what_cannot_be_reached_is_a_usage_error_with_a_way_out() {
        for text in ["", "gs://b/x", "az://b/x", "ftp://x/y", "s3://", "s3://key:secret@bucket/x", "file://host/x"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(error.help().is_some(), "{text}");
        }
    }

    #[test]
    fn a_location_and_its_store_agree() {
        let (_, path) = parse("/a b/c").unwrap().object_store(&Environment::new()).unwrap();
        assert_eq!(path.as_ref(), "a b/c");
        let environment = Environment::from([
            ("AWS_ENDPOINT_URL".to_owned(), "http://localhost:1".to_owned()),
            ("AWS_BUCKET".to_owned(), "other".to_owned()),
        ]);
        let (store, path) = parse("s3://bucket/p").unwrap().object_store(&environment).unwrap();
        assert_eq!(path.as_ref(), "p");
        assert!(store.to_string().contains("bucket"), "{store}");
    }

    #[test]
    fn joining_goes_down() {
        assert_eq!(parse("s3://b").unwrap().join("x/y").unwrap().to_string(), "s3://b/x/y");
        assert_eq!(parse("/w").unwrap().join("x/y").unwrap().to_string(), "/w/x/y");
    }
}
