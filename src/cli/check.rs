//! `tallyman check`: checks a configuration, and prints it or the reference of its keys.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use super::{
    data_folder,
    exit::{Exit, Failure},
    format::count,
    output::{Output, Printer},
};
use crate::{
    aws::{metering::Endpoint, session},
    base::{
        config::{self, Config, ConfigError},
        preflight::{self, Findings},
    },
};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file. Without one, everything comes from `TALLYMAN__SECTION__KEY` variables.
    #[arg(long, env = "TALLYMAN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration as it takes effect, defaults and environment included, as TOML.
    #[arg(long)]
    pub print: bool,
    /// Print the reference of all keys, as Markdown (docs/configuration.md), and check nothing.
    #[arg(long, conflicts_with = "print")]
    pub reference: bool,
}

/// Checks a configuration, printing to the standard streams.
pub(crate) fn check(args: &CheckArgs, output: Output) -> Exit {
    let (mut out, mut notes) = (std::io::stdout(), std::io::stderr());
    let mut printer = Printer::new(output, &mut out, &mut notes);
    if args.reference {
        let printed = printer.text(&config::reference()).map(|()| Exit::Ok);
        return printer.finish(printed);
    }
    let config = config::load(args.config.as_deref(), variables());
    let result = report(args, config.and_then(pass), &session::set_aside(), &mut printer);
    printer.finish(result)
}

/// The configuration of a command that needs one. Faults in it are written to `notes`.
pub(crate) fn load_config(file: Option<&Path>, notes: &mut dyn Write) -> Result<Config, Exit> {
    config::load(file, variables()).map_err(|error| {
        // If notes cannot be written either, the exit code still tells.
        writeln!(notes, "tallyman: {error}").ok();
        Exit::Usage
    })
}

/// The environment variables, but for those that are not Unicode and so cannot be settings.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Looks at the files that a configuration names, as far as they are on this machine.
fn pass(mut config: Config) -> Result<Config, ConfigError> {
    let Findings { faults, warnings } = preflight::look(&config);
    config.warnings.extend(warnings);
    if faults.is_empty() { Ok(config) } else { Err(ConfigError(faults)) }
}

/// `set_aside` is what of the environment is not taken.
fn report(
    args: &CheckArgs,
    config: Result<Config, ConfigError>,
    set_aside: &[String],
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    match config {
        Ok(mut config) => {
            let not_taken = |name: &String| {
                format!("{name} is not taken: endpoint_url and sts_endpoint_url say where calls go")
            };
            config.warnings.extend(set_aside.iter().map(not_taken));
            for warning in &config.warnings {
                printer.note(&format!("warning: {warning}"))?;
            }
            show(args, config, printer)?;
            Ok(Exit::Ok)
        }
        Err(error) => {
            printer.note(&error.to_string())?;
            if printer.is_json() {
                printer.json(&CheckJson { faults: error.0, ..CheckJson::default() })?;
            }
            Ok(Exit::Usage)
        }
    }
}

fn show(args: &CheckArgs, config: Config, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.is_json() {
        let endpoints = endpoints(&config).collect();
        let effective = args.print.then_some(config.effective);
        let data_dir = config.agent.data_dir.display().to_string();
        let data_folder = args.print.then(|| data_folder::state_of(&config.agent.data_dir));
        let (valid, warnings) = (true, config.warnings);
        return printer.json(&CheckJson {
            valid,
            warnings,
            data_dir,
            data_folder,
            endpoints,
            effective,
            ..CheckJson::default()
        });
    }
    if args.print {
        // What is not of the configuration is a comment, so that the output can be kept as a file.
        return printer.text(&format!("{}{}", comments(&config), config.effective));
    }
    printer.line(&summary(&config))
}

/// The data folder as it is now, and where each product's records go.
fn comments(config: &Config) -> String {
    let mut lines = vec![data_folder::describe(&config.agent.data_dir)];
    lines.extend(endpoints(config).map(|to| format!("product {}: {}", to.product, to.endpoint)));
    let comments: Vec<_> = lines.into_iter().map(|line| format!("# {line}\n")).collect();
    comments.concat()
}

fn endpoints(config: &Config) -> impl Iterator<Item = EndpointJson> {
    config.catalog.products().zip(&config.connections).map(|((_, product), connection)| {
        let endpoint = Endpoint::of(connection);
        EndpointJson {
            product: product.code.to_string(),
            endpoint: endpoint.to_string(),
            endpoint_url: endpoint.url,
            region: endpoint.region,
        }
    })
}

fn summary(config: &Config) -> String {
    let mut lines = vec!["the configuration is right".to_owned()];
    for ((index, product), connection) in config.catalog.products().zip(&config.connections) {
        let dimensions = count(product.dimensions.len() as u64, "dimension");
        let customers = config.customers.iter().filter(|customer| customer.product == index).count();
        let customers = count(customers as u64, "configured customer");
        let others = if product.open { ", and whoever else uses it" } else { "" };
        lines.push(format!("  product {}: {dimensions}, {customers}{others}", product.code));
        lines.push(format!("    to {}", Endpoint::of(connection)));
    }
    lines.join("\n")
}

/// The result as JSON.
#[derive(Default, Serialize)]
struct CheckJson {
    valid: bool,
    faults: Vec<String>,
    /// What is likely to be a mistake.
    warnings: Vec<String>,
    data_dir: String,
    /// What is there now; with `--print`.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_folder: Option<String>,
    endpoints: Vec<EndpointJson>,
    /// The configuration as it takes effect, as TOML.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<String>,
}

/// Where a product's records go, as JSON.
#[derive(Serialize)]
struct EndpointJson {
    product: String,
    endpoint_url: String,
    region: String,
    #[serde(skip)]
    endpoint: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::testing::GOOD;

    fn run(text: &str, print: bool, output: Output) -> (Exit, String, String) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(output, &mut out, &mut notes);
        let args = CheckArgs { config: None, print, reference: false };
        let set_aside = ["AWS_ENDPOINT_URL".to_owned()];
        let result =
            report(&args, config::parse(text, "t.toml", std::iter::empty()), &set_aside, &mut printer);
        let exit = printer.finish(result);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap())
    }

    #[test]
    fn a_good_configuration_is_summed_up() {
        let (exit, out, notes) = run(GOOD, false, Output::Human);
        let warning = "tallyman: warning: AWS_ENDPOINT_URL is not taken: endpoint_url and sts_endpoint_url say where calls go\n";
        assert_eq!((exit, notes.as_str()), (Exit::Ok, warning));
        assert_eq!(
            out,
            "the configuration is right\n  product prod: 1 dimension, 1 configured customer, and whoever else uses it\n    \
             to https://metering.marketplace.us-east-1.amazonaws.com (us-east-1)\n"
        );
    }

    #[test]
    fn what_may_have_been_meant_otherwise_is_told_and_is_no_fault() {
        let text = format!("[hour]\ndedup_window = '2h'\n{GOOD}");
        let (exit, out, notes) = run(&text, false, Output::Human);
        assert_eq!(exit, Exit::Ok);
        assert!(out.starts_with("the configuration is right\n"), "{out}");
        assert!(notes.starts_with("tallyman: warning: hour.dedup_window (2h) is shorter"), "{notes}");
        let (_, out, _) = run(&text, false, Output::Json);
        let verdict: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(verdict["warnings"][0].as_str().unwrap().contains("billed twice"), "{verdict}");
    }

    #[test]
    fn print_shows_what_takes_effect_and_in_comments_where_usage_is_and_goes() {
        let (_, out, _) = run(GOOD, true, Output::Human);
        let again = config::parse(&out, "again", std::iter::empty()).unwrap();
        assert!(out.ends_with(&again.effective), "{out}");
        let comments: Vec<_> = out.lines().take_while(|line| line.starts_with("# ")).collect();
        assert!(comments[0].starts_with("# data folder /var/lib/tallyman: "), "{out}");
        let to = "# product prod: https://metering.marketplace.us-east-1.amazonaws.com (us-east-1)";
        assert_eq!((comments.len(), comments[1]), (2, to));
    }

    #[test]
    fn every_fault_is_named_and_the_exit_code_is_that_of_wrong_configuration() {
        let (exit, out, notes) = run("[hour]\ngrace = 'soon'\ngrease = 1\n", false, Output::Human);
        assert_eq!((exit.code(), out.as_str()), (64, ""));
        for key in ["t.toml: hour.grace", "t.toml: hour.grease", "t.toml: product"] {
            assert!(notes.contains(key), "{key} not in {notes}");
        }
    }

    #[test]
    fn machines_get_the_faults_as_a_list() {
        let (exit, out, _) = run("", false, Output::Json);
        let verdict: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(exit, Exit::Usage);
        assert_eq!(verdict["valid"], false);
        assert!(verdict["faults"][0].as_str().unwrap().contains("product"), "{verdict}");
    }
}
