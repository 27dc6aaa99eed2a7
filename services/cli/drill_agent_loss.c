/* drill_agent_loss.c - the agent is killed: people hear what to do by hand, and it comes back by steps. */
#include "cli/drill_stories.h"

static const char *const args[] = {"--act-rate", "10", NULL};
static const struct drill_plan plan = {
    .agent_settings =
        "    recovery: { rollback: offer, deployment: " DRILL_DEPLOYMENT ", procedure: \"" DRILL_PROCEDURE
        "\", step: 500ms }\n" DRILL_SELFTEST DRILL_QUESTION("attack", DRILL_ATTACK, "{\"verdict\": \"malicious\"}"),
    .agent_args = args};

static const struct drill_step steps[] = {
    DRILL_BEGIN,
    DRILL_START("", ""),
    {.key = "agent_dies",
     .text = "kill -9: the agent dies",
     .act = drill_act_kill,
     .who = "agent",
     .failure = true,
     .marks = {DRILL_UNHEARD,
               DRILL_DIRECTIVE("directive", "whatever claims to be it is restricted", DEGRADED,
                               .step = DRILL_PBE(STEP__STEP_RESTRICT)),
               DRILL_ALERT("alert", "alert names what people do by hand", "down", CRITICAL, .has = DRILL_PROCEDURE),
               DRILL_TOLD,
               DRILL_ALERT("rollback", "and the command for a rollback", "down", CRITICAL,
                           .has = "redoubt rollback")},
     .limit_ms = 15000,
     .logs = {"health", "fallback", "alert"}},
    {.key = "agent_returns",
     .text = "the agent is started again",
     .act = drill_act_spawn,
     .who = "agent",
     .marks = {DRILL_STANDS("confirmed"), DRILL_HEARD,
               DRILL_DIRECTIVE("ramp_10", "a part of its work: 10 %", RECOVERING, .percent = 10,
                               .step = DRILL_PBE(STEP__STEP_RECONNECT)),
               DRILL_DIRECTIVE("ramp_25", "25 %", RECOVERING, .percent = 25),
               DRILL_DIRECTIVE("ramp_50", "50 %", RECOVERING, .percent = 50),
               DRILL_DIRECTIVE("directive", "agent is in full function", NORMAL, .llm = DRILL_PRIMARY),
               DRILL_ACK(DRILL_PRIMARY), DRILL_OVER("down"), DRILL_ACTS_AGAIN},
     .limit_ms = 30000,
     .logs = {"health", "fallback", "agent", "guard"}},
    DRILL_END(5),
};

static const struct drill_figure figures[] = {
    {"detection", "agent killed -> not heard of", "agent_dies", "agent_dies.noticed"},
    {"fallback", "agent killed -> restricted", "agent_dies", "agent_dies.directive"},
    {"ack", "new process -> it has confirmed where it stands", "agent_returns", "agent_returns.confirmed"},
    {"first alert", "agent killed -> first alert accepted by a channel", "agent_dies", "agent_dies.slack"},
    {"failback", "new process -> agent confirmed in full function", "agent_returns", "agent_returns.ack"},
};

const struct drill_story drill_agent_loss = {
    .name = "agent-loss",
    .title = "the agent is killed; people hear what to do by hand; it comes back by steps",
    DRILL_TABLES,
    .limit_ms = 70000,
    .plan = &plan,
    .hints = drill_town_hints,
};
