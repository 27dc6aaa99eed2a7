/* drill_partition.c - the agent's link to the bus swallows everything: both sides restrict it by themselves, and agree again. */
#include "cli/drill_stories.h"

static const char *const args[] = {"--act-rate", "10", "--lease-ms", "2000", NULL};
static const struct drill_plan plan = {
    .agent_settings = "    recovery: { step: 500ms }\n", .agent_args = args, .link = true};

static const struct drill_step steps[] = {
    DRILL_BEGIN,
    DRILL_START("link ", "link"),
    {.key = "link_goes",
     .text = "the agent's link to the bus swallows everything",
     .act = drill_act_mode,
     .who = "link",
     .verb = "blackhole",
     .failure = true,
     .marks = {DRILL_UNHEARD,
               DRILL_DIRECTIVE("directive", "it is restricted", DEGRADED, .step = DRILL_PBE(STEP__STEP_RESTRICT)),
               DRILL_ALERT("alert", "alert is raised", "down", HIGH),
               DRILL_TOLD,
               {.key = "ack",
                .text = "its lease is over: it freezes itself",
                .look = drill_look_log,
                .who = "agent",
                .has = "\"posture\":\"FROZEN\""}},
     .limit_ms = 20000,
     .logs = {"health", "fallback", "agent"}},
    DRILL_LATE_ACTION("an action of the epoch before arrives by another way"),
    {.key = "link_returns",
     .text = "the link is back",
     .act = drill_act_mode,
     .who = "link",
     .verb = "ok",
     .marks = {DRILL_STANDS("ack"), DRILL_HEARD,
               DRILL_DIRECTIVE("reconnect", "it comes back", RECOVERING, .step = DRILL_PBE(STEP__STEP_RECONNECT)),
               DRILL_DIRECTIVE("directive", "agent is in full function", NORMAL, .llm = DRILL_PRIMARY),
               DRILL_ACK_OF("confirmed", DRILL_PRIMARY, "directive"), DRILL_OVER("down"), DRILL_ACTS_AGAIN},
     .limit_ms = 30000,
     .logs = {"health", "fallback", "agent", "guard"}},
    DRILL_END(5),
};

static const struct drill_figure figures[] = {
    {"detection", "link gone -> agent not heard of", "link_goes", "link_goes.noticed"},
    {"fallback", "link gone -> restricted by the suite", "link_goes", "link_goes.directive"},
    {"ack", "link gone -> restricted by itself, its lease over", "link_goes", "link_goes.ack"},
    {"first alert", "link gone -> first alert accepted by a channel", "link_goes", "link_goes.slack"},
    {"failback", "link back -> agent confirmed in full function", "link_returns", "link_returns.confirmed"},
    {"re-sync", "link back -> agent has confirmed where it stands", "link_returns", "link_returns.ack"},
};

const struct drill_story drill_partition = {
    .name = "partition",
    .title = "the agent and the suite lose each other, restrict it on both sides, and agree again",
    DRILL_TABLES,
    .limit_ms = 80000,
    .plan = &plan,
    .hints = drill_town_hints,
};
