/* drill_resource_exhaustion.c - the agent runs out of memory: it sheds load by steps, is restarted, and comes back by steps. */
#include "cli/drill_stories.h"
#include <signal.h>
#include <stdio.h>

#define MEANS "agent." DRILL_AGENT ".resources"

static int prepare(struct drill *d, struct err *e)
{
    static const char *const args[] = {"--act-rate", "10",        "--misbehave", "memory",
                                       "--well",     "--restart", "never",       NULL};
    char settings[3 * DRILL_PATH], self[DRILL_PATH];
    if (drill_stack_self(self, sizeof self, e))
        return -1;
    /* The agent holds 256 MiB more than it needs. */
    snprintf(
        settings, sizeof settings,
        "    limits: { memory_bytes: 230MiB }\n"
        "    resources: { step: 700ms, hold: 700ms, restart: { command: [\"%s\", drill, restart, \"%s\", agent], "
        "timeout: 20s } }\n"
        "    recovery: { step: 500ms }\n",
        self, d->stack.dir);
    const struct drill_plan plan = {.agent_settings = settings, .agent_args = args, .restarts = true};
    return drill_town_prepare(d, &plan, e);
}

static const struct drill_step steps[] = {
    DRILL_BEGIN,
    DRILL_START("", ""),
    {.key = "memory_goes",
     .text = "the agent takes 256 MiB more than it should",
     .act = drill_act_tell,
     .who = "agent",
     .what = SIGUSR1,
     .failure = true,
     .marks = {DRILL_HEALTH("noticed", "its means are used up", MEANS, DEGRADED),
               DRILL_DIRECTIVE("directive", "it sheds load: 50 % is left", RECOVERING, .percent = 50,
                               .step = DRILL_PBE(STEP__STEP_SHED_LOAD)),
               DRILL_ACK(NULL), DRILL_ALERT("alert", "alert is raised", "resources", HIGH), DRILL_TOLD,
               DRILL_DIRECTIVE("shed_25", "25 %", RECOVERING, .percent = 25),
               DRILL_DIRECTIVE("shed_10", "10 %", RECOVERING, .percent = 10),
               DRILL_DIRECTIVE("asked", "it is asked to restart", DEGRADED,
                               .step = DRILL_PBE(STEP__STEP_REQUEST_RESTART))},
     .limit_ms = 20000,
     .logs = {"health", "fallback", "agent"}},
    {.key = "restart",
     .text = "it does not; so the executor is called",
     .marks = {DRILL_DIRECTIVE("directive", "it is being restarted", DEGRADED, .step = DRILL_PBE(STEP__STEP_RESTART)),
               {.key = "restarted",
                .text = "a new process connects",
                .look = drill_look_log,
                .who = "agent",
                .has = "\"connected\""},
               DRILL_HEALTH("well", "its means suffice again", MEANS, HEALTHY),
               DRILL_DIRECTIVE("ramp_25", "a part of its work: 25 %", RECOVERING, .percent = 25),
               DRILL_DIRECTIVE("ramp_50", "50 %", RECOVERING, .percent = 50),
               DRILL_DIRECTIVE("restored", "agent is in full function", NORMAL,
                               .step = DRILL_PBE(STEP__STEP_RESTORE_LOAD)),
               DRILL_ACK_OF("ack", DRILL_PRIMARY, "restored"),
               DRILL_OVER("resources"),
               DRILL_ACTS_AGAIN},
     .limit_ms = 30000,
     .logs = {"fallback", "health", "agent"}},
    DRILL_END(5),
};

static const struct drill_figure figures[] = {
    {"detection", "memory taken -> means used up", "memory_goes", "memory_goes.noticed"},
    {"fallback", "memory taken -> directive to shed load", "memory_goes", "memory_goes.directive"},
    {"ack", "directive -> confirmed by the agent", "memory_goes.directive", "memory_goes.ack"},
    {"first alert", "memory taken -> first alert accepted by a channel", "memory_goes", "memory_goes.slack"},
    {"failback", "new process -> agent confirmed in full function", "restart.restarted", "restart.ack"},
    {"restart", "memory taken -> a new process runs", "memory_goes", "restart.restarted"},
};

const struct drill_story drill_resource_exhaustion = {
    .name = "resource-exhaustion",
    .title = "the agent runs out of memory, sheds load, is restarted, and comes back by steps",
    DRILL_TABLES,
    .limit_ms = 80000,
    .prepare = prepare,
    .hints = drill_town_hints,
};
