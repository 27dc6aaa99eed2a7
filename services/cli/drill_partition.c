/* drill_partition.c - the agent's link to the bus swallows everything: both sides restrict it by themselves, and agree again. */
#include "cli/drill_stories.h"

static int prepare(struct drill *d, struct err *e)
{
    static const char *const args[] = {"--act-rate", "10", "--lease-ms", "2000", NULL};
    static const struct drill_plan plan = {
        .agent_settings = "    recovery: { step: 500ms }\n", .agent_args = args, .link = true};
    return drill_town_prepare(d, &plan, e);
}

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
    {.key = "late_action",
     .text = "an action of the epoch before arrives by another way",
     .act = drill_act_ask,
     .what = 1,
     .marks = {{.key = "refused",
                .text = "guard refuses it",
                .look = drill_look_refused,
                .what = DRILL_PBE(REFUSAL_REASON__REFUSAL_REASON_STALE_EPOCH)}},
     .limit_ms = 10000,
     .logs = {"guard"}},
    {.key = "link_returns",
     .text = "the link is back",
     .act = drill_act_mode,
     .who = "link",
     .verb = "ok",
     .marks = {{.key = "ack", .text = "agent confirms where it stands", .message = drill_sees_ack},
               DRILL_HEARD,
               DRILL_DIRECTIVE("reconnect", "it comes back", RECOVERING, .step = DRILL_PBE(STEP__STEP_RECONNECT)),
               DRILL_DIRECTIVE("directive", "agent is in full function", NORMAL, .llm = DRILL_PRIMARY),
               {.key = "confirmed",
                .text = "agent confirms",
                .message = drill_sees_ack,
                .llm = DRILL_PRIMARY,
                .after = "directive"},
               DRILL_OVER("down"),
               DRILL_ACTS_AGAIN},
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
    .steps = steps,
    .n_steps = sizeof steps / sizeof steps[0],
    .figures = figures,
    .n_figures = sizeof figures / sizeof figures[0],
    .limit_ms = 80000,
    .prepare = prepare,
    .hints = drill_town_hints,
};
