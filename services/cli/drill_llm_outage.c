/* drill_llm_outage.c - a whole LLM outage, there and back, on real parts with real kills, as a table of steps. */
#include "cli/drill_stories.h"

#define OVERRIDE_MS 3600000 /* one hour: what the suite asks of the backend by default */

static int prepare(struct drill *d, struct err *e)
{
    static const char *const args[] = {"--act-rate", "10", NULL};
    static const struct drill_plan plan = {.mail_mode = "550", .agent_args = args};
    return drill_town_prepare(d, &plan, e);
}

static const struct drill_step steps[] = {
    DRILL_BEGIN,
    DRILL_START("smtp ", "smtp"),
    {.key = "primary_dies",
     .text = "kill -9: the primary LLM dies",
     .act = drill_act_kill,
     .who = "llm-primary",
     .failure = true,
     .marks = {DRILL_BREAKER("opened", "breaker opens", DRILL_PRIMARY, OPEN),
               DRILL_DIRECTIVE("directive", "agent is moved to the backup", BACKUP_LLM, .llm = DRILL_BACKUP),
               DRILL_ACK(DRILL_BACKUP),
               {.key = "works", .text = "backup answers the agent", .message = drill_sees_work, .who = DRILL_BACKUP},
               {.key = "email",
                .text = "e-mail is refused",
                .message = drill_sees_any_receipt,
                .who = "email",
                .what = DRILL_PBE(DELIVERY_STATUS__DELIVERY_STATUS_FAILED)},
               {.key = "slack",
                .text = "Slack accepts the alert",
                .message = drill_sees_any_receipt,
                .who = "slack",
                .what = DRILL_PBE(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED)}},
     .limit_ms = 10000,
     .logs = {"breaker", "fallback", "alert", "agent"}},
    {.key = "backup_dies",
     .text = "kill -9: the backup LLM dies, too",
     .act = drill_act_kill,
     .who = "llm-backup",
     .failure = true,
     .marks = {DRILL_BREAKER("opened", "breaker opens", DRILL_BACKUP, OPEN),
               DRILL_DIRECTIVE("directive", "agent is put under security fallback", SECURITY_FALLBACK, .llm = ""),
               DRILL_ACK(""),
               {.key = "override",
                .text = "backend enforces strict policies",
                .look = drill_look_override,
                .who = "/api/admin/override/activate",
                .what = OVERRIDE_MS},
               DRILL_ALERT("alert", "alert is raised", "security-fallback", HIGH, .has = "override_activated"),
               {.key = "email",
                .text = "e-mail does not take it",
                .message = drill_sees_receipt,
                .who = "email",
                .what = DRILL_PBE(DELIVERY_STATUS__DELIVERY_STATUS_FAILED)},
               DRILL_TOLD,
               {.key = "file", .text = "file records it", .look = drill_look_file, .who = "alerts.jsonl"}},
     .limit_ms = 15000,
     .logs = {"fallback", "alert", "breaker", "agent"}},
    {.key = "llms_return",
     .text = "both LLMs are started again",
     .act = drill_act_spawn,
     .who = "llm-primary llm-backup",
     .marks =
         {DRILL_BREAKER("closed", "breaker closes", DRILL_PRIMARY, CLOSED),
          DRILL_DIRECTIVE("directive", "agent is brought back to its primary", NORMAL, .llm = DRILL_PRIMARY),
          DRILL_ACK(DRILL_PRIMARY),
          {.key = "works", .text = "primary answers the agent", .message = drill_sees_work, .who = DRILL_PRIMARY},
          {.key = "released",
           .text = "backend's override is released",
           .look = drill_look_released,
           .who = "/api/admin/override/deactivate"}},
     .limit_ms = 25000,
     .logs = {"health", "breaker", "fallback", "agent"}},
    DRILL_END(5),
};

static const struct drill_figure figures[] = {
    {"detection", "primary killed -> breaker open", "primary_dies", "primary_dies.opened"},
    {"fallback", "primary killed -> directive to use the backup", "primary_dies", "primary_dies.directive"},
    {"ack", "directive -> confirmed by the agent", "primary_dies.directive", "primary_dies.ack"},
    {"first alert", "primary killed -> first alert accepted by a channel", "primary_dies", "primary_dies.slack"},
    {"failback", "LLMs back -> agent confirmed on its primary", "llms_return", "llms_return.ack"},
    {"back at work", "primary killed -> first answer from the backup", "primary_dies", "primary_dies.works"},
    {"detection 2", "backup killed -> breaker open", "backup_dies", "backup_dies.opened"},
    {"fallback 2", "backup killed -> directive: security fallback", "backup_dies", "backup_dies.directive"},
    {"override", "backup killed -> strict policies active in the backend", "backup_dies", "backup_dies.override"},
    {"alert 2", "backup killed -> its alert accepted by a channel", "backup_dies", "backup_dies.slack"},
    {"release", "LLMs back -> override released in the backend", "llms_return", "llms_return.released"},
};

const struct drill_story drill_llm_outage = {
    .name = "llm-outage",
    .title = "primary LLM dies, backup dies, both return; real servers, real kills",
    .steps = steps,
    .n_steps = sizeof steps / sizeof steps[0],
    .figures = figures,
    .n_figures = sizeof figures / sizeof figures[0],
    .limit_ms = 70000,
    .prepare = prepare,
    .hints = drill_town_hints,
};
