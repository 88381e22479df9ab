//! `tallyman check`: is this configuration right?

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use super::{
    exit::{Exit, Failure},
    output::{Output, Printer},
    show::count,
};
use crate::base::config::{self, Config, ConfigError};

#[derive(Debug, Args)]
pub struct CheckArgs {
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
pub fn check(args: &CheckArgs, output: Output) -> Exit {
    let (mut out, mut notes) = (std::io::stdout(), std::io::stderr());
    let mut printer = Printer::new(output, &mut out, &mut notes);
    if args.reference {
        let printed = printer.text(&config::reference()).map(|()| Exit::Ok);
        return printer.finish(printed);
    }
    let result = answer(args, config::load(args.config.as_deref(), variables()), &mut printer);
    printer.finish(result)
}

/// The configuration of a command that needs one. Its faults go to `notes`.
pub fn load_config(file: Option<&Path>, notes: &mut dyn Write) -> Result<Config, Exit> {
    config::load(file, variables()).map_err(|error| {
        // With nowhere left to complain, the exit code must do.
        writeln!(notes, "tallyman: {error}").ok();
        Exit::Usage
    })
}

/// The environment, without what is not Unicode and thus cannot be a setting.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn answer(
    args: &CheckArgs,
    config: Result<Config, ConfigError>,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    match config {
        Ok(config) => {
            show(args, &config, printer)?;
            Ok(Exit::Ok)
        }
        Err(error) => {
            printer.note(&error.to_string())?;
            if printer.is_json() {
                printer.json(&Verdict { valid: false, faults: error.0, effective: None })?;
            }
            Ok(Exit::Usage)
        }
    }
}

fn show(args: &CheckArgs, config: &Config, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.is_json() {
        let effective = args.print.then(|| config.effective.clone());
        return printer.json(&Verdict { valid: true, faults: Vec::new(), effective });
    }
    if args.print {
        // Nothing else, so that it can be kept as a file.
        return printer.text(&config.effective);
    }
    printer.line(&summary(config))
}

fn summary(config: &Config) -> String {
    let mut lines = vec!["the configuration is right".to_owned()];
    for (index, product) in config.catalog.products() {
        let dimensions = count(product.dimensions.len() as u64, "dimension");
        let customers = config.customers.iter().filter(|customer| customer.product == index).count();
        let customers = count(customers as u64, "configured customer");
        let others = if product.open { ", and whoever else uses it" } else { "" };
        lines.push(format!("  product {}: {dimensions}, {customers}{others}", product.code));
    }
    lines.join("\n")
}

/// The answer as JSON.
#[derive(Serialize)]
struct Verdict {
    valid: bool,
    faults: Vec<String>,
    /// TOML.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::testing::GOOD;

    fn run(text: &str, print: bool, output: Output) -> (Exit, String, String) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(output, &mut out, &mut notes);
        let args = CheckArgs { config: None, print, reference: false };
        let result = answer(&args, config::parse(text, "t.toml", std::iter::empty()), &mut printer);
        let exit = printer.finish(result);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap())
    }

    #[test]
    fn a_good_configuration_is_summed_up() {
        let (exit, out, notes) = run(GOOD, false, Output::Human);
        assert_eq!((exit, notes.as_str()), (Exit::Ok, ""));
        assert_eq!(
            out,
            "the configuration is right\n  product prod: 1 dimension, 1 configured customer, and whoever else uses it\n"
        );
    }

    #[test]
    fn print_shows_what_takes_effect_and_nothing_else() {
        let (_, out, _) = run(GOOD, true, Output::Human);
        let again = config::parse(&out, "again", std::iter::empty()).unwrap();
        assert_eq!(again.effective, out);
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
