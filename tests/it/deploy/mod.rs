//! What deploy/ and docs/runbook.md promise to operators, held by the tools that read them. tests/deploy has the checks.

mod alerts;

use std::process::{Command, Stdio};

use crate::support::python::python;

macro_rules! claims {
    ($($script:ident { $($claim:ident)* })*) => {
        $(mod $script {
            $(#[test]
            fn $claim() {
                super::holds(stringify!($script), stringify!($claim));
            })*
        })*

        const CLAIMS: &[(&str, &[&str])] = &[$((stringify!($script), &[$(stringify!($claim)),*])),*];
    };
}

claims! {
    manifests {
        every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes
        the_chart_is_valid_with_every_value_set_and_with_all_that_can_be_left_out
        helm_finds_nothing_to_complain_of
        the_chart_of_the_readme_finds_its_library_by_the_path_there
        every_pod_is_restricted_as_pod_security_asks
        every_agent_has_a_read_only_root_limits_and_no_token_of_kubernetes
        every_agent_has_the_user_of_the_image
        no_manifest_starts_a_second_agent
        the_chart_refuses_a_second_replica_and_what_it_does_not_know
        volumes_stay_when_the_workload_goes
        operators_read_that_one_agent_owns_a_products_customers
        network_policies_and_disruption_budgets_are_for_the_agents_pods
        grace_periods_leave_the_agent_its_drain
        probes_ask_for_paths_that_the_admin_port_has
        services_lead_to_the_agent
        pod_monitors_scrape_the_admin_port_for_the_job_of_the_alerts
        the_role_of_aws_is_that_of_the_agents_service_account
    }
    forms {
        sidecars_are_native_ones
        helms_sidecar_is_that_of_kustomize
        the_chart_is_the_shared_agent_of_kustomize
        the_component_gives_any_deployment_an_agent_and_leaves_others_alone
    }
    running {
        the_agent_takes_every_configuration_here
        the_sidecar_runs_as_its_manifest_says
        the_socket_is_open_to_the_group_of_the_pod
        shared_agents_answer_only_clients_with_a_certificate
        the_chart_tells_clients_apart_as_its_example_of_a_configuration_says
    }
    monitoring {
        rules_and_scrape_configuration_are_valid
        alerts_fire_when_they_must_and_only_then
        every_alert_is_tested_to_fire_and_to_be_silent
        someone_is_woken_for_what_cannot_wait_and_for_nothing_else
        the_prometheus_rule_and_the_charts_copy_are_the_same_alerts
        every_query_of_the_dashboard_is_promql
        every_query_names_only_metrics_that_exist
        every_metric_is_shown_on_the_dashboard
        alerts_ask_for_reasons_and_results_that_exist
        every_query_asks_for_labels_that_its_metrics_have
        grafanas_own_model_knows_everything_in_the_dashboard
        panels_have_numbers_of_their_own_and_do_not_overlap
        every_alert_has_its_section_in_the_runbook
        links_of_the_runbook_lead_somewhere
        every_command_of_the_runbook_is_one_that_tallyman_has
        the_runbook_finds_every_agent_by_its_image
    }
    elsewhere {
        the_images_folder_runs_tallyman_without_root_and_without_a_shell
        the_dockerfile_ends_in_an_image_of_nothing_but_that_folder
        the_image_is_built_from_files_that_are_there
        ecs_takes_the_task_and_the_service
        ecs_never_runs_two_agents
        the_task_starts_the_agent_first_and_lets_it_end
        iam_allows_the_calls_that_are_made_and_nothing_else
        systemd_takes_the_unit
        the_unit_is_hardened_as_systemd_counts_it
        the_unit_stops_in_time_and_restarts_only_what_a_restart_may_mend
        the_unit_leaves_the_host_name_to_be_read
        the_laptops_agent_bills_the_laptops_sandbox
        the_compose_file_opens_ports_on_this_machine_only
        the_default_clock_of_the_compose_file_is_the_real_one
        no_file_names_a_registry_that_is_not_a_placeholder
    }
}

fn script(name: &str) -> Command {
    let mut command = python(&format!("tests/deploy/{name}.py"));
    command.args(["--tallyman", env!("CARGO_BIN_EXE_tallyman")]);
    command
}

fn holds(name: &str, claim: &str) {
    passes(script(name).arg(claim));
}

fn passes(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn no_check_is_left_out() {
    for (name, claims) in CLAIMS {
        let listed = passes(script(name).arg("--list"));
        assert_eq!(listed.lines().collect::<Vec<_>>(), *claims, "{name}");
    }
}
