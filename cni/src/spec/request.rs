//! The parameters in the environment: section 2, "Parameters".

use std::fmt;
use std::path::PathBuf;

use super::{Code, Error};
use crate::endpoint::EndpointId;

/// What the runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach a container.
    Del,
    /// Verify an attachment.
    Check,
    /// Remove every attachment but the listed ones.
    Gc,
    /// Say whether ADD would be served.
    Status,
    /// List the supported versions.
    Version,
}

/// The `CNI_*` variables, unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
}

/// The container that ADD, DEL and CHECK are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The container's id, of the runtime's making.
    pub id: String,
    /// The interface inside it.
    pub ifname: String,
    /// Its network namespace; DEL may come without.
    pub netns: Option<PathBuf>,
}

/// The pod that a container is the sandbox of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace; empty for a container without a pod.
    pub namespace: String,
    /// Its name; the container's id for a container without a pod.
    pub name: String,
    /// Its UID, if the runtime tells.
    pub uid: Option<String>,
}

/// A container id goes into a file name, of at most 255 bytes with interface and suffix.
const LONGEST_CONTAINER_ID: usize = 200;

/// `IFNAMSIZ` of `linux/if.h`, less the final zero.
const LONGEST_IFNAME: usize = 15;

impl Environment {
    /// Reads the variables of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Self {
            command: variable("CNI_COMMAND"),
            container_id: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            ifname: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
        }
    }

    /// `CNI_COMMAND`.
    pub fn command(&self) -> Result<Command, Error> {
        match self.command.as_str() {
            "ADD" => Ok(Command::Add),
            "DEL" => Ok(Command::Del),
            "CHECK" => Ok(Command::Check),
            "GC" => Ok(Command::Gc),
            "STATUS" => Ok(Command::Status),
            "VERSION" => Ok(Command::Version),
            other => Err(invalid("CNI_COMMAND", other, "not a command of the CNI specification")),
        }
    }

    /// The container that the command is about.
    pub fn container(&self) -> Result<Container, Error> {
        check_container_id(&self.container_id)?;
        check_ifname(&self.ifname)?;
        let netns = (!self.netns.is_empty()).then(|| PathBuf::from(&self.netns));
        Ok(Container { id: self.container_id.clone(), ifname: self.ifname.clone(), netns })
    }

    /// The pod that the container belongs to, from `CNI_ARGS`.
    pub fn pod(&self) -> Result<PodName, Error> {
        let (mut namespace, mut name, mut uid) = (None, None, None);
        let (mut ignore_unknown, mut unknown) = (false, Vec::new());
        for pair in self.args.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(invalid("CNI_ARGS", pair, "not of the form KEY=VALUE"));
            };
            match key {
                "K8S_POD_NAMESPACE" => namespace = Some(value),
                "K8S_POD_NAME" => name = Some(value),
                "K8S_POD_UID" => uid = Some(value.to_owned()),
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                "IgnoreUnknown" => ignore_unknown = matches!(value, "1" | "true" | "True" | "TRUE"),
                other => unknown.push(other),
            }
        }
        if !ignore_unknown && !unknown.is_empty() {
            let why = "unknown, and IgnoreUnknown is not set";
            return Err(invalid("CNI_ARGS", &unknown.join(";"), why));
        }
        match (namespace, name) {
            (Some(namespace), Some(name)) => {
                check_kubernetes_name("K8S_POD_NAMESPACE", namespace)?;
                check_kubernetes_name("K8S_POD_NAME", name)?;
                Ok(PodName { namespace: namespace.into(), name: name.into(), uid })
            }
            (None, None) => {
                Ok(PodName { namespace: String::new(), name: self.container_id.clone(), uid: None })
            }
            (Some(_), None) => Err(invalid("CNI_ARGS", &self.args, "without K8S_POD_NAME")),
            (None, Some(_)) => Err(invalid("CNI_ARGS", &self.args, "without K8S_POD_NAMESPACE")),
        }
    }
}

impl Container {
    /// The key of the attachment.
    pub fn id(&self) -> EndpointId {
        EndpointId::new(&self.id, &self.ifname)
    }
}

fn invalid(variable: &str, value: &str, why: &str) -> Error {
    Error::new(Code::InvalidEnvironment, format!("{variable} {value:?} is {why}"))
}

/// "Must start with an alphanumeric character, optionally followed by any combination of one or more alphanumeric
/// characters, underscore, dot or hyphen."
fn check_container_id(id: &str) -> Result<(), Error> {
    let admitted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if id.is_empty() {
        return Err(invalid("CNI_CONTAINERID", id, "empty"));
    }
    if id.len() > LONGEST_CONTAINER_ID {
        return Err(invalid("CNI_CONTAINERID", id, "longer than 200 bytes"));
    }
    if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || !id.chars().all(admitted) {
        let why = "not a letter or digit followed by letters, digits, '_', '.' or '-'";
        return Err(invalid("CNI_CONTAINERID", id, why));
    }
    Ok(())
}

/// The kernel's rules for an interface name, which the specification takes over.
fn check_ifname(name: &str) -> Result<(), Error> {
    let why = if name.is_empty() {
        "empty"
    } else if name.len() > LONGEST_IFNAME {
        "longer than 15 bytes"
    } else if matches!(name, "." | ".." | "all" | "default") {
        "not an interface name"
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "with a '/', a ':' or a blank, which no interface name has"
    } else {
        return Ok(());
    };
    Err(invalid("CNI_IFNAME", name, why))
}

fn check_kubernetes_name(key: &str, name: &str) -> Result<(), Error> {
    let admitted = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty() || !name.chars().all(admitted) {
        return Err(invalid(&format!("CNI_ARGS {key}"), name, "not a Kubernetes name"));
    }
    Ok(())
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(container_id: &str, ifname: &str, args: &str) -> Environment {
        Environment {
            command: "ADD".into(),
            container_id: container_id.into(),
            netns: "/run/netns/x".into(),
            ifname: ifname.into(),
            args: args.into(),
        }
    }

    fn check_container(container_id: &str, ifname: &str, expected: &str) {
        let shown = match environment(container_id, ifname, "").container() {
            Ok(container) => container.id().to_string(),
            Err(error) => {
                assert_eq!(error.code, Code::InvalidEnvironment);
                error.msg
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn container_and_interface_obey_the_character_rules() {
        check_container("3f_2a.b-c", "eth0", "3f_2a.b-c@eth0");
        check_container("", "eth0", r#"CNI_CONTAINERID "" is empty"#);
        let characters = "not a letter or digit followed by letters, digits, '_', '.' or '-'";
        for id in ["../x", "-a", "a/b", "a@b", "ä"] {
            check_container(id, "eth0", &format!("CNI_CONTAINERID {id:?} is {characters}"));
        }
        check_container("a", "", r#"CNI_IFNAME "" is empty"#);
        check_container("a", "..", r#"CNI_IFNAME ".." is not an interface name"#);
        check_container("a", "all", r#"CNI_IFNAME "all" is not an interface name"#);
        check_container(
            "a",
            "sixteen-letters!",
            r#"CNI_IFNAME "sixteen-letters!" is longer than 15 bytes"#,
        );
        let blank = "with a '/', a ':' or a blank, which no interface name has";
        for name in ["a/b", "a:b", "a b"] {
            check_container("a", name, &format!("CNI_IFNAME {name:?} is {blank}"));
        }
    }

    fn check_pod(args: &str, expected: &str) {
        let shown = match environment("3f2a", "eth0", args).pod() {
            Ok(pod) => format!("{}/{} {}", pod.namespace, pod.name, pod.uid.unwrap_or_default()),
            Err(error) => {
                assert_eq!(error.code, Code::InvalidEnvironment);
                error.msg
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_pod_comes_from_the_arguments() {
        check_pod(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=3f2a;K8S_POD_UID=u;X=1",
            "default/web-0 u",
        );
    }

    #[test]
    fn a_container_without_a_pod_stands_for_itself() {
        check_pod("", "/3f2a ");
    }

    #[test]
    fn half_a_pod_is_refused() {
        check_pod(
            "K8S_POD_NAME=web",
            r#"CNI_ARGS "K8S_POD_NAME=web" is without K8S_POD_NAMESPACE"#,
        );
    }

    #[test]
    fn unknown_arguments_need_leave() {
        check_pod("A=1;B=2", r#"CNI_ARGS "A;B" is unknown, and IgnoreUnknown is not set"#);
        check_pod("A=1;IgnoreUnknown=true", "/3f2a ");
        check_pod("A", r#"CNI_ARGS "A" is not of the form KEY=VALUE"#);
    }

    #[test]
    fn a_name_that_kubernetes_cannot_have_given_is_refused() {
        check_pod(
            "K8S_POD_NAMESPACE=a/b;K8S_POD_NAME=c",
            r#"CNI_ARGS K8S_POD_NAMESPACE "a/b" is not a Kubernetes name"#,
        );
    }

    proptest! {
        #[test]
        fn no_arguments_make_the_parser_panic(args in "([A-Z8_a-z]{0,20}=?[a-z/0-9.]{0,8};?){0,6}") {
            if let Ok(pod) = environment("3f2a", "eth0", &args).pod() {
                prop_assert!(!pod.namespace.contains('/') && !pod.name.is_empty());
            }
        }

        #[test]
        fn no_container_that_is_accepted_leads_out_of_the_directory(
            id in "[a-z0-9./@:_ -]{0,20}", ifname in "[a-z0-9./@: -]{0,17}",
        ) {
            if let Ok(container) = environment(&id, &ifname, "").container() {
                let file = container.id().file_name();
                prop_assert!(!file.contains('/') && !file.starts_with('.'), "{file}");
                prop_assert_eq!(file.split_once('@').unwrap().0, id);
            }
        }
    }
}
