/* drill_logic_error.c - the agent loses its judgement: it is frozen, and only a person and a passing self-test unfreeze it. */
#include "cli/drill_stories.h"
#include <signal.h>

#define LOGIC "agent." DRILL_AGENT ".logic"

static int prepare(struct drill *d, struct err *e)
{
    static const char *const args[] = {"--act-rate", "10", "--misbehave", "selftest", "--well", NULL};
    static const struct drill_plan plan = {
        .agent_settings = "    selftest:\n"
                          "      interval: 300ms\n"
                          "      timeout: 2s\n"
                          "      questions:\n"
                          "        - name: attack\n"
                          "          event: '{\"source\": \"203.0.113.7\", \"failed_logins\": 40}'\n"
                          "          expect: '{\"verdict\": \"malicious\", \"action\": \"block_ip\"}'\n"
                          "        - name: quiet\n"
                          "          event: '{\"source\": \"203.0.113.9\", \"failed_logins\": 1}'\n"
                          "          expect: '{\"verdict\": \"benign\"}'\n",
        .agent_args = args};
    return drill_town_prepare(d, &plan, e);
}

static const struct drill_step steps[] = {
    DRILL_BEGIN,
    DRILL_START("", ""),
    {.key = "judgement_goes",
     .text = "the agent answers self-tests wrongly",
     .act = drill_act_tell,
     .who = "agent",
     .what = SIGUSR1,
     .failure = true,
     .marks = {{.key = "noticed",
                .text = "its judgement is UNHEALTHY",
                .message = drill_sees_health,
                .who = LOGIC,
                .what = DRILL_PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY)},
               DRILL_DIRECTIVE("directive", "agent is frozen", FROZEN, .step = DRILL_PBE(STEP__STEP_FREEZE)),
               DRILL_ACK(NULL),
               {.key = "fenced", .text = "guard has nothing older in hand", .message = drill_sees_fenced},
               DRILL_ALERT("alert", "alert: a person must decide", "frozen", CRITICAL),
               DRILL_TOLD},
     .limit_ms = 15000,
     .logs = {"health", "fallback", "guard", "agent"}},
    {.key = "late_action",
     .text = "an action of the epoch before arrives late",
     .act = drill_act_ask,
     .what = 1,
     .marks = {{.key = "refused",
                .text = "guard refuses it",
                .look = drill_look_refused,
                .what = DRILL_PBE(REFUSAL_REASON__REFUSAL_REASON_STALE_EPOCH)}},
     .limit_ms = 10000,
     .logs = {"guard"}},
    {.key = "disobedience",
     .text = "an action of the present epoch arrives all the same",
     .act = drill_act_ask,
     .marks = {{.key = "refused",
                .text = "guard refuses it",
                .look = drill_look_refused,
                .what = DRILL_PBE(REFUSAL_REASON__REFUSAL_REASON_FROZEN)},
               {.key = "silence",
                .text = "nothing reached the backend since the freeze",
                .look = drill_look_silence}},
     .limit_ms = 10000,
     .logs = {"guard"}},
    {.key = "too_early",
     .text = "a person unfreezes it, though it still answers wrongly",
     .act = drill_act_order,
     .verb = "unfreeze",
     .marks = {{.key = "refused",
                .text = "the self-test fails: it stays frozen",
                .look = drill_look_answer,
                .what = DRILL_PBE(COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE)},
               {.key = "silence",
                .text = "nothing reached the backend since the freeze",
                .look = drill_look_silence}},
     .limit_ms = 15000,
     .logs = {"fallback", "agent"}},
    {.key = "mended",
     .text = "the agent is mended",
     .act = drill_act_tell,
     .who = "agent",
     .what = SIGUSR1,
     .marks = {{.key = "noticed",
                .text = "its judgement is HEALTHY again",
                .message = drill_sees_health,
                .who = LOGIC,
                .what = DRILL_PBE(HEALTH_STATE__HEALTH_STATE_HEALTHY)},
               {.key = "silence", .text = "and still it is frozen", .look = drill_look_silence}},
     .limit_ms = 15000,
     .logs = {"health", "agent"}},
    {.key = "unfreeze",
     .text = "a person unfreezes it",
     .act = drill_act_order,
     .verb = "unfreeze",
     .marks = {{.key = "done",
                .text = "the self-test passes",
                .look = drill_look_answer,
                .what = DRILL_PBE(COMMAND_STATUS__COMMAND_STATUS_OK)},
               DRILL_DIRECTIVE("directive", "agent is in full function", NORMAL,
                               .step = DRILL_PBE(STEP__STEP_UNFREEZE)),
               DRILL_ACK(DRILL_PRIMARY),
               DRILL_OVER("frozen"),
               DRILL_ACTS_AGAIN,
               {.key = "silence", .text = "of older epochs none has", .look = drill_look_silence}},
     .limit_ms = 15000,
     .logs = {"fallback", "agent", "guard"}},
    DRILL_END(5),
};

static const struct drill_figure figures[] = {
    {"detection", "first wrong answer -> judgement UNHEALTHY", "judgement_goes", "judgement_goes.noticed"},
    {"fallback", "first wrong answer -> directive: frozen", "judgement_goes", "judgement_goes.directive"},
    {"ack", "directive -> confirmed by the agent", "judgement_goes.directive", "judgement_goes.ack"},
    {"first alert", "first wrong answer -> first alert accepted by a channel", "judgement_goes",
     "judgement_goes.slack"},
    {"failback", "order to unfreeze -> agent confirmed in full function", "unfreeze", "unfreeze.ack"},
    {"fence", "directive -> no older action in any guard's hand", "judgement_goes.directive",
     "judgement_goes.fenced"},
    {"self-test", "order to unfreeze -> answered, the self-test passed", "unfreeze", "unfreeze.done"},
};

const struct drill_story drill_logic_error = {
    .name = "logic-error",
    .title = "the agent loses its judgement, is frozen, mended, and unfrozen by a person",
    .steps = steps,
    .n_steps = sizeof steps / sizeof steps[0],
    .figures = figures,
    .n_figures = sizeof figures / sizeof figures[0],
    .limit_ms = 70000,
    .prepare = prepare,
    .hints = drill_town_hints,
};
