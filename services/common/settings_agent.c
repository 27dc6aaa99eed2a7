/* settings_agent.c - the settings of an agent under protection, as tables: key, type, default, bounds, help. */
#include "common/settings_impl.h"

#define RELOAD true

static const char *const auths[] = {[SET_AUTH_BEARER] = "bearer",
                                    [SET_AUTH_BASIC] = "basic",
                                    [SET_AUTH_HEADER] = "header",
                                    [SET_AUTH_NONE] = "none",
                                    NULL};

#undef STRUCT
#define STRUCT struct set_override
static const struct conf_field override_fields[] = {
    ROW("url", URL, url, "", 0, 0,
        "Base URL of the backend that enforces strict default policies; empty = no override.",
        .choices = (const char *const[]){"http", "https", NULL}),
    ROW("activate_path", STRING, activate_path, "/api/admin/override/activate", 0, 0, "POST to switch it on."),
    ROW("release_path", STRING, release_path, "/api/admin/override/deactivate", 0, 0, "POST to switch it off."),
    ROW("activate_body", STRING, activate_body,
        "{\"duration\": {{duration_ms}}, \"justification\": {{justification}}}", 0, 4096,
        "Body of the activation: JSON in which {{duration_ms}}, {{justification}}, {{agent}}, {{epoch}}, {{key}}, "
        "{{baseline_version}} and {{baseline_sha256}} are replaced, texts with their quotes."),
    ROW("release_body", STRING, release_body, "{\"justification\": {{justification}}}", 0, 4096,
        "Body of the release, likewise."),
    ROW("token", SECRET, token, "", 0, 0, "Secret for both; empty = none."),
    ROW("auth", ENUM, auth, "bearer", 0, 0,
        "How `token` is sent. bearer: Authorization: Bearer. basic: user:password. header: as the value of "
        "`auth_header`. none: not at all.",
        .choices = auths),
    ROW("auth_header", STRING, auth_header, "X-API-Key", 1, 64, "Name of the header, with `auth: header`."),
    ROW("duration", DURATION, duration_ms, "1h", SECOND, 7 * DAY,
        "How long one activation holds: one hour, the objective for LLM fallback."),
    ROW("renew", DURATION, renew_ms, "10m", 100, DAY,
        "Renewed when less than this is left; at most half of `duration` is used."),
    ROW("retry", DURATION, retry_ms, "2s", 50, MINUTE, "First pause between tries, doubling up to 30s."),
};

#undef STRUCT
#define STRUCT struct set_chain_item
static const struct conf_field chain_fields[] = {
    ROW("target", TARGET, target, REQUIRED, 0, 0, "A target of kind llm."),
    ROW("model", STRING, model, "", 1, 256, "The model that the agent shall use there."),
    ROW("context", INT, context, "0", 0, 1000000000, "Its context window in tokens; 0 = not said."),
    ROW("tools", STRING, tools, "", 1, 64,
        "The format of its tool calls, e.g. openai or anthropic; empty = not said."),
    ROW("residency", STRING, residency, "", 1, 64, "Where its data stay, e.g. eu; empty = not said."),
};

#undef STRUCT
#define STRUCT struct set_needs
static const struct conf_field needs_fields[] = {
    ROW("context", INT, context, "0", 0, 1000000000, "Context window in tokens that it needs at least; 0 = any."),
    ROW("tools", STRING, tools, "", 1, 64, "The format of tool calls that it speaks; empty = any."),
    ROW("residency", STRINGS, residency, "", 0, 16, "Where its data may be; none = anywhere.", .item = CONF_STRING),
};
static const struct conf_schema needs_schema = {"needs", sizeof(struct set_needs), needs_fields, N_OF(needs_fields),
                                                NULL};

#undef STRUCT
#define STRUCT struct set_restart
static const struct conf_field restart_fields[] = {
    ROW("command", STRINGS, command, "", 0, 32,
        "Program (absolute path) and arguments that restart the agent, run by the fallback service without a shell; "
        "none = not allowed.",
        .item = CONF_STRING),
    ROW("timeout", DURATION, timeout_ms, "60s", 100, 10 * MINUTE, "Then it is ended, and has failed."),
    ROW("per_hour", INT, per_hour, "3", 1, 16, "At most so often within an hour; then people are called."),
};
static const struct conf_schema restart_schema = {"restart", sizeof(struct set_restart), restart_fields,
                                                  N_OF(restart_fields), NULL};

#undef STRUCT
#define STRUCT struct set_resources
static const struct conf_field resources_fields[] = {
    ROW("step", DURATION, step_ms, "30s", 10, HOUR,
        "Still exhausted after this long: the next step. Work is shed to 50, 25 and 10 %, then a restart is asked of "
        "the "
        "agent, then the executor restarts it."),
    ROW("hold", DURATION, hold_ms, "30s", 10, HOUR, "Well for this long: one step back."),
    ROW("restart", OBJECT, restart, "", 0, 0, "Whether the suite may restart it, and how.",
        .schema = &restart_schema),
};
static const struct conf_schema resources_schema = {"resources", sizeof(struct set_resources), resources_fields,
                                                    N_OF(resources_fields), NULL};

#undef STRUCT
#define STRUCT struct set_recovery
static const char *const gone_rollbacks[] = {
    [SET_GONE_OFFER] = "offer", [SET_GONE_ROLLBACK] = "start", [SET_GONE_NOTHING] = "nothing", NULL};
static const struct conf_field recovery_fields[] = {
    ROW("rollback", ENUM, rollback, "offer", 0, 0,
        "What is done about a rollback while the agent is gone. offer: the alert names the command. start: the "
        "rollback "
        "service is asked for one after `rollback_after`.",
        .choices = gone_rollbacks),
    ROW("deployment", STRING, deployment, "", 1, 64, "Its deployment in the rollback service; empty = none."),
    ROW("rollback_after", DURATION, rollback_after_ms, "2m", 0, DAY, "Gone for this long, with `rollback: start`."),
    ROW("procedure", STRING, procedure, "", 1, 512,
        "What people do by hand while it is gone: a text or a URL; the alert names it."),
    ROW("step", DURATION, step_ms, "30s", 10, HOUR,
        "Back after having been gone: length of each step of 10, 25, 50, 100 % of its work."),
};
static const struct conf_schema recovery_schema = {"recovery", sizeof(struct set_recovery), recovery_fields,
                                                   N_OF(recovery_fields), NULL};

#undef STRUCT
#define STRUCT struct set_actions
static const struct conf_field actions_fields[] = {
    ROW("url", URL, url, "", 0, 0,
        "Base URL of the backend that executes its actions; empty = the guard passes nothing on for it.",
        .choices = (const char *const[]){"http", "https", NULL}),
    ROW("path", STRING, path, "/api/actions", 0, 0, "POST; the baseline may name another path for an action."),
    ROW("body", STRING, body, "{\"action\": {{action}}, \"parameters\": {{parameters}}, \"agent\": {{agent}}}", 0,
        4096,
        "JSON in which {{action}}, {{parameters}} (an object of texts), {{agent}}, {{epoch}} and {{key}} are "
        "replaced."),
    ROW("token", SECRET, token, "", 0, 0, "Secret; empty = none."),
    ROW("auth", ENUM, auth, "bearer", 0, 0, "How `token` is sent: as for the override.", .choices = auths),
    ROW("auth_header", STRING, auth_header, "X-API-Key", 1, 64, "Name of the header, with `auth: header`."),
    ROW("timeout", DURATION, timeout_ms, "5s", 50, MINUTE,
        "Without a whole answer after this time the outcome is unknown; it is asked again under the same key."),
};
static const struct conf_schema actions_schema = {"actions", sizeof(struct set_actions), actions_fields,
                                                  N_OF(actions_fields), settings_check_actions};
static const struct conf_schema override_schema = {"override", sizeof(struct set_override), override_fields,
                                                   N_OF(override_fields), settings_check_override};
static const struct conf_schema chain_schema = {"chain", sizeof(struct set_chain_item), chain_fields,
                                                N_OF(chain_fields), NULL};

#undef STRUCT
#define STRUCT struct set_logic
static const struct conf_field logic_fields[] = {
    ROW("window", DURATION, window_ms, "5m", SECOND, DAY, "Decisions of this last stretch of time are counted."),
    ROW("min_decisions", INT, min_decisions, "20", 1, 1000000, "Fewer than this say nothing about shares."),
    ROW("malformed", PERCENT, malformed_percent, "10%", 0, 100,
        "Share of decisions that cannot be used; 0% = not looked at."),
    ROW("contradictory", PERCENT, contradictory_percent, "5%", 0, 100,
        "Share of decisions that differ from an earlier one about the same event."),
    ROW("denied", PERCENT, denied_percent, "50%", 0, 100, "Share of actions that are denied."),
    ROW("repeats", INT, repeats, "10", 0, 1000000, "The same action to the same object so often; 0 = not looked at."),
    ROW("exceptions", INT, exceptions, "5", 0, 1000000,
        "Exceptions that the agent reports of itself; 0 = not looked at."),
};
static const struct conf_schema logic_schema = {"logic", sizeof(struct set_logic), logic_fields, N_OF(logic_fields),
                                                NULL};

#undef STRUCT
#define STRUCT struct set_question
static const struct conf_field question_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in evidence."),
    ROW("event", STRING, event, REQUIRED, 2, 16384, "The event that is asked about, as JSON."),
    ROW("expect", STRING, expect, REQUIRED, 2, 16384,
        "The right decision, as a JSON object: every field of it must be in the answer with the same value."),
};
static const struct conf_schema question_schema = {"question", sizeof(struct set_question), question_fields,
                                                   N_OF(question_fields), settings_check_question};

#undef STRUCT
#define STRUCT struct set_selftest
static const struct conf_field selftest_fields[] = {
    ROW("interval", DURATION, interval_ms, "60s", 100, DAY, "Time between two questions, one after the other."),
    ROW("timeout", DURATION, timeout_ms, "10s", 10, 5 * MINUTE, "No answer after this time is a wrong one."),
    ROW("fall", INT, fall, "2", 1, 100, "Wrong answers in a row until the judgement counts as gone."),
    ROW("questions", LIST, questions, "", 0, 64, "Events with one right decision; none = no self-test.",
        .schema = &question_schema),
};
static const struct conf_schema selftest_schema = {"selftest", sizeof(struct set_selftest), selftest_fields,
                                                   N_OF(selftest_fields), NULL};

#undef STRUCT
#define STRUCT struct set_agent
static const struct conf_field agent_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in every subject."),
    ROW("chain", LIST, chain, REQUIRED, 1, 16,
        "The LLMs that it may use, primary first. With none usable the agent goes to security fallback.",
        .schema = &chain_schema),
    ROW("backend", TARGET, backend, "", 0, 0, "The target of kind backend that executes its actions; empty = none."),
    ROW("override", OBJECT, override, "", 0, 0, "The backend's strict default policies during a security fallback.",
        .schema = &override_schema),
    ROW("needs", OBJECT, needs, "", 0, 0,
        "What a model must have for this agent; one that lacks it, or does not say, is skipped.",
        .schema = &needs_schema),
    ROW("actions", OBJECT, actions, "", 0, 0, "Where the guard passes its actions on.", .schema = &actions_schema),
    ROW("resources", OBJECT, resources, "", 0, 0, "What is done when it runs out of resources.",
        .schema = &resources_schema),
    ROW("recovery", OBJECT, recovery, "", 0, 0, "What is done when it is gone, and when it is back.",
        .schema = &recovery_schema),
    ROW("watch", STRINGS, watch, "", 0, 32,
        "Targets that basic monitoring looks at for it while it cannot work in full: logs, resources of its host.",
        .item = CONF_TARGET),
    ROW("monitor_interval", DURATION, monitor_interval_ms, "60s", 100, HOUR,
        "How often basic monitoring is done while it cannot work in full: each minute, the source's figure."),
    ROW("heartbeat", DURATION, heartbeat_ms, "1s", 100, 10 * MINUTE, "Time between its heartbeats."),
    ROW("heartbeat_fall", INT, heartbeat_fall, "3", 1, 100, "Heartbeats missed in a row until it counts as down."),
    ROW("heartbeat_phi", INT, heartbeat_phi, "8", 1, 40,
        "How suspicious a silence must be to count as a missed heartbeat (phi-accrual: 8 = one false alarm in 10^8, "
        "by the "
        "rhythm that this agent has shown)."),
    ROW("stuck", DURATION, stuck_ms, "60s", 100, DAY,
        "Alive, work waits, and not one unit done for this long: stuck. Longer than any single LLM call may take."),
    ROW("limits", OBJECT, limits, "", 0, 0, "From when on a resource that its heartbeats tell of is used up.",
        .schema = &settings_limits_schema),
    ROW("logic", OBJECT, logic, "", 0, 0, "When its decisions show that its judgement is gone.",
        .schema = &logic_schema),
    ROW("selftest", OBJECT, selftest, "", 0, 0, "Questions with one right answer, asked of the agent itself.",
        .schema = &selftest_schema),
    ROW("ack", DURATION, ack_ms, "1s", 50, MINUTE,
        "A directive without acknowledgement is sent again after this time."),
    ROW("ack_alert", DURATION, ack_alert_ms, "5s", 100, HOUR,
        "A directive without acknowledgement for this long raises an alert."),
    ROW("restore_hold", DURATION, restore_hold_ms, "30s", 0, DAY,
        "A better LLM must have been well for this long before the agent goes back to it."),
    ROW("backend_step", DURATION, backend_step_ms, "30s", 10, HOUR,
        "Length of each step of the backend's way back: 10, 25, 50, 100 % of the calls."),
};
const struct conf_schema settings_agent_schema = {"agent", sizeof(struct set_agent), agent_fields, N_OF(agent_fields),
                                                  settings_check_agent};
