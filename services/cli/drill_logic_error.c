/* drill_logic_error.c - the agent loses its judgement: it is frozen, and only a person and a passing self-test unfreeze it. */
#include "cli/drill_stories.h"
#include <signal.h>

#define LOGIC "agent." DRILL_AGENT ".logic"
#define SILENCE(text_)                                                                                               \
    {                                                                                                                \
        .key = "silence", .text = text_, .look = drill_look_silence                                                  \
    }

static const char *const args[] = {"--act-rate", "10", "--misbehave", "selftest", "--well", NULL};
static const struct drill_plan plan = {
    .agent_settings = DRILL_SELFTEST DRILL_QUESTION("attack", DRILL_ATTACK,
                                                    "{\"verdict\": \"malicious\", \"action\": \"block_ip\"}")
        DRILL_QUESTION("quiet", "{\"source\": \"203.0.113.9\", \"failed_logins\": 1}", "{\"verdict\": \"benign\"}"),
    .agent_args = args};

static const struct drill_step steps[] = {
    DRILL_BEGIN,
    DRILL_START("", ""),
    {.key = "judgement_goes",
     .text = "the agent answers self-tests wrongly",
     .act = drill_act_tell,
     .who = "agent",
     .what = SIGUSR1,
     .failure = true,
     .marks = {DRILL_HEALTH("noticed", "its judgement is UNHEALTHY", LOGIC, UNHEALTHY),
               DRILL_DIRECTIVE("directive", "agent is frozen", FROZEN, .step = DRILL_PBE(STEP__STEP_FREEZE)),
               DRILL_ACK(NULL),
               {.key = "fenced", .text = "guard has nothing older in hand", .message = drill_sees_fenced},
               DRILL_ALERT("alert", "alert: a person must decide", "frozen", CRITICAL),
               DRILL_TOLD},
     .limit_ms = 15000,
     .logs = {"health", "fallback", "guard", "agent"}},
    DRILL_LATE_ACTION("an action of the epoch before arrives late"),
    {.key = "disobedience",
     .text = "an action of the present epoch arrives all the same",
     .act = drill_act_ask,
     .marks = {DRILL_REFUSED(FROZEN), SILENCE("nothing reached the backend since the freeze")},
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
               SILENCE("nothing reached the backend since the freeze")},
     .limit_ms = 15000,
     .logs = {"fallback", "agent"}},
    {.key = "mended",
     .text = "the agent is mended",
     .act = drill_act_tell,
     .who = "agent",
     .what = SIGUSR1,
     .marks = {DRILL_HEALTH("noticed", "its judgement is HEALTHY again", LOGIC, HEALTHY),
               SILENCE("and still it is frozen")},
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
               SILENCE("of older epochs none has")},
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
    DRILL_TABLES,
    .limit_ms = 70000,
    .plan = &plan,
    .hints = drill_town_hints,
};
