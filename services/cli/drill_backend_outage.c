/* drill_backend_outage.c - the backend goes away and comes back: its actions wait, and each is done once, in order. */
#include "cli/drill_stories.h"

static const char *const args[] = {"--act-rate", "10", NULL};
static const struct drill_plan plan = {.agent_args = args};

static const struct drill_step steps[] = {
    DRILL_BEGIN,
    DRILL_START("", ""),
    {.key = "backend_goes",
     .text = "the backend's port is closed: connection refused",
     .act = drill_act_mode,
     .who = "backend",
     .verb = "refuse",
     .failure = true,
     .marks = {DRILL_BREAKER("opened", "breaker opens", DRILL_BACKEND, OPEN),
               DRILL_DIRECTIVE("directive", "agent goes to degraded mode", DEGRADED,
                               .step = DRILL_PBE(STEP__STEP_DEGRADE_BACKEND)),
               DRILL_ACK(DRILL_PRIMARY),
               DRILL_ALERT("alert", "alert is raised", "backend", HIGH),
               DRILL_TOLD,
               {.key = "queued", .text = "guard queues actions", .message = drill_sees_queued},
               {.key = "monitors", .text = "basic monitoring goes on without it", .message = drill_sees_monitoring}},
     .limit_ms = 15000,
     .logs = {"breaker", "fallback", "guard", "agent"}},
    {.key = "backend_returns",
     .text = "the backend is back",
     .act = drill_act_mode,
     .who = "backend",
     .verb = "ok",
     .marks = {DRILL_BREAKER("tested", "breaker lets one call test it", DRILL_BACKEND, HALF_OPEN),
               DRILL_DIRECTIVE("ramp_10", "10 % of the actions pass", RECOVERING, .percent = 10),
               DRILL_DIRECTIVE("ramp_25", "25 %", RECOVERING, .percent = 25),
               DRILL_DIRECTIVE("ramp_50", "50 %", RECOVERING, .percent = 50),
               DRILL_BREAKER("closed", "breaker closes", DRILL_BACKEND, CLOSED),
               DRILL_DIRECTIVE("directive", "agent is back in full function", NORMAL,
                               .step = DRILL_PBE(STEP__STEP_RESTORE_BACKEND)),
               DRILL_ACK(DRILL_PRIMARY),
               DRILL_ALERT("successful", "people hear: recovery successful", "backend", INFO, .resolved = true),
               {.key = "replayed", .text = "queue is replayed, in order", .look = drill_look_settled, .what = 1}},
     .limit_ms = 25000,
     .logs = {"health", "breaker", "fallback", "guard"}},
    DRILL_END(10),
};

static const struct drill_figure figures[] = {
    {"detection", "backend gone -> breaker open", "backend_goes", "backend_goes.opened"},
    {"fallback", "backend gone -> directive: degraded mode", "backend_goes", "backend_goes.directive"},
    {"ack", "directive -> confirmed by the agent", "backend_goes.directive", "backend_goes.ack"},
    {"first alert", "backend gone -> first alert accepted by a channel", "backend_goes", "backend_goes.slack"},
    {"failback", "backend back -> agent confirmed in full function", "backend_returns", "backend_returns.ack"},
    {"first queued", "backend gone -> first action in the queue", "backend_goes", "backend_goes.queued"},
    {"monitoring", "backend gone -> basic monitoring reports", "backend_goes", "backend_goes.monitors"},
    {"replay", "backend back -> every action that waited is done", "backend_returns", "backend_returns.replayed"},
};

const struct drill_story drill_backend_outage = {
    .name = "backend-outage",
    .title = "the backend goes away and comes back; actions wait, none is lost or done twice",
    DRILL_TABLES,
    .limit_ms = 70000,
    .plan = &plan,
    .hints = drill_town_hints,
};
