/* drill_stories.h - the stories, and the steps that all of them have in common. */
#ifndef REDOUBT_CLI_DRILL_STORIES_H
#define REDOUBT_CLI_DRILL_STORIES_H

#include "cli/drill_acts.h"
#include "cli/drill_marks.h"

extern const struct drill_story drill_llm_outage;
extern const struct drill_story drill_backend_outage;
extern const struct drill_story drill_logic_error;
extern const struct drill_story drill_resource_exhaustion;
extern const struct drill_story drill_partition;
extern const struct drill_story drill_agent_loss;

#define DRILL_SERVICES "audit alert breaker guard fallback health"

/* ---- marks ---- */

#define DRILL_PBE(x) REDOUBT__V1__##x
#define DRILL_HEALTH(key_, text_, target, state)                                                                     \
    {                                                                                                                \
        .key = key_, .text = text_, .message = drill_sees_health, .who = target,                                     \
        .what = DRILL_PBE(HEALTH_STATE__HEALTH_STATE_##state)                                                        \
    }
#define DRILL_HEALTHY(key_, target) DRILL_HEALTH(key_, target " is healthy", target, HEALTHY)
#define DRILL_BREAKER(key_, text_, target, state)                                                                    \
    {                                                                                                                \
        .key = key_, .text = text_, .message = drill_sees_breaker, .who = target,                                    \
        .what = DRILL_PBE(BREAKER_STATE__BREAKER_STATE_##state)                                                      \
    }
/* ... are further fields: .llm, .step, .percent. */
#define DRILL_DIRECTIVE(key_, text_, posture, ...)                                                                   \
    {                                                                                                                \
        .key = key_, .text = text_, .message = drill_sees_directive, .what = DRILL_PBE(POSTURE__POSTURE_##posture),  \
        __VA_ARGS__                                                                                                  \
    }
#define DRILL_ACK_OF(key_, llm_, directive)                                                                          \
    {                                                                                                                \
        .key = key_, .text = "agent confirms", .message = drill_sees_ack, .llm = llm_, .after = directive            \
    }
/* Of the mark `directive`. */
#define DRILL_ACK(llm_) DRILL_ACK_OF("ack", llm_, "directive")
/* It is back, and knows nothing new yet. */
#define DRILL_STANDS(key_)                                                                                           \
    {                                                                                                                \
        .key = key_, .text = "agent confirms where it stands", .message = drill_sees_ack                             \
    }
#define DRILL_WORKS(text_, target)                                                                                   \
    {                                                                                                                \
        .key = "works", .text = text_, .message = drill_sees_work, .who = target                                     \
    }
#define DRILL_REFUSED(reason)                                                                                        \
    {                                                                                                                \
        .key = "refused", .text = "guard refuses it", .look = drill_look_refused,                                    \
        .what = DRILL_PBE(REFUSAL_REASON__REFUSAL_REASON_##reason)                                                   \
    }
#define DRILL_ALERT(key_, text_, notice, severity, ...)                                                              \
    {                                                                                                                \
        .key = key_, .text = text_, .message = drill_sees_alert, .who = notice,                                      \
        .what = DRILL_PBE(SEVERITY__SEVERITY_##severity), __VA_ARGS__                                                \
    }
#define DRILL_TOLD                                                                                                   \
    {                                                                                                                \
        .key = "slack", .text = "Slack accepts the alert", .message = drill_sees_receipt, .who = "slack",            \
        .what = DRILL_PBE(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED)                                                 \
    }

#define DRILL_SELF         "agent." DRILL_AGENT
#define DRILL_UNHEARD      DRILL_HEALTH("noticed", "the agent is not heard of", DRILL_SELF, UNHEALTHY)
#define DRILL_HEARD        DRILL_HEALTH("well", "the agent is heard again", DRILL_SELF, HEALTHY)
#define DRILL_OVER(notice) DRILL_ALERT("over", "people hear that it is over", notice, INFO, .resolved = true)
#define DRILL_ACTS_AGAIN                                                                                             \
    {                                                                                                                \
        .key = "acts", .text = "its actions reach the backend again", .look = drill_look_executed, .what = 3         \
    }

/* ---- steps ---- */

#define DRILL_SIMULATORS "llm-primary llm-backup backend slack"
/* Servers, and the drill's own ear. */
#define DRILL_BEGIN                                                                                                  \
    {.key = "servers",                                                                                               \
     .text = "nats-server with JetStream and redis-server start",                                                    \
     .act = drill_act_spawn,                                                                                         \
     .who = "nats redis",                                                                                            \
     .marks = {{.key = "listening", .text = "both listen", .look = drill_look_listening, .who = "nats redis"}},      \
     .limit_ms = 8000,                                                                                               \
     .logs = {"nats", "redis"}},                                                                                     \
    {                                                                                                                \
        .key = "watch", .text = "the drill listens to the bus", .act = drill_act_connect,                            \
        .marks = {{.key = "connected", .text = "connected", .look = drill_look_connected}}, .limit_ms = 8000,        \
        .logs = {                                                                                                    \
            "nats"                                                                                                   \
        }                                                                                                            \
    }
/* Everything else: the agent works with its primary model, and its actions reach the backend. */
#define DRILL_START(more, simulators)                                                                                \
    {                                                                                                                \
        .key = "start", .text = "services, two LLMs, a backend, Slack, and the agent start", .act = drill_act_spawn, \
        .who = DRILL_SERVICES " " DRILL_SIMULATORS " " more "agent",                                                 \
        .marks = {{.key = "listening",                                                                               \
                   .text = "simulators listen",                                                                      \
                   .look = drill_look_listening,                                                                     \
                   .who = DRILL_SIMULATORS " " simulators},                                                          \
                  DRILL_HEALTHY("primary", DRILL_PRIMARY),                                                           \
                  DRILL_HEALTHY("backup", DRILL_BACKUP),                                                             \
                  DRILL_HEALTHY("backend", DRILL_BACKEND),                                                           \
                  DRILL_HEALTHY("alive", DRILL_SELF),                                                                \
                  DRILL_DIRECTIVE("directive", "agent has its position", NORMAL, .llm = DRILL_PRIMARY),              \
                  DRILL_ACK(DRILL_PRIMARY),                                                                          \
                  DRILL_WORKS("primary answers the agent", DRILL_PRIMARY),                                           \
                  {.key = "acts", .text = "its actions reach the backend", .look = drill_look_executed, .what = 2},  \
                  {.key = "normal",                                                                                  \
                   .text = "nothing is left to be said to it",                                                       \
                   .look = drill_look_posture,                                                                       \
                   .what = DRILL_PBE(POSTURE__POSTURE_NORMAL)}},                                                     \
        .limit_ms = 20000, .logs = {                                                                                 \
            "health",                                                                                                \
            "fallback",                                                                                              \
            "agent",                                                                                                 \
            "guard"                                                                                                  \
        }                                                                                                            \
    }
/* What was asked for under the directive before comes to the guard all the same. */
#define DRILL_LATE_ACTION(text_)                                                                                     \
    {                                                                                                                \
        .key = "late_action", .text = text_, .act = drill_act_ask, .what = 1, .marks = {DRILL_REFUSED(STALE_EPOCH)}, \
        .limit_ms = 10000, .logs = {                                                                                 \
            "guard"                                                                                                  \
        }                                                                                                            \
    }
#define DRILL_ENDS(service)                                                                                          \
    {                                                                                                                \
        .key = "end_" service, .text = "redoubt-" service " is told to end", .act = drill_act_end, .who = service,   \
        .marks = {{.key = "ended", .text = "drained", .look = drill_look_ended, .who = service}}, .limit_ms = 8000,  \
        .logs = {service}, .ends = true                                                                              \
    }
/* The end: each drains in order, every action is accounted for, the trail is whole. */
#define DRILL_END(accepted)                                                                                          \
    {.key = "end_agent",                                                                                             \
     .text = "the agent is told to end",                                                                             \
     .act = drill_act_end,                                                                                           \
     .who = "agent",                                                                                                 \
     .marks = {{.key = "ended", .text = "ended", .look = drill_look_ended, .who = "agent"},                          \
               {.key = "settled",                                                                                    \
                .text = "each accepted action is done, once",                                                        \
                .look = drill_look_settled,                                                                          \
                .what = accepted}},                                                                                  \
     .limit_ms = 15000,                                                                                              \
     .logs = {"agent", "guard"},                                                                                     \
     .ends = true},                                                                                                  \
        DRILL_ENDS("health"), DRILL_ENDS("fallback"), DRILL_ENDS("guard"), DRILL_ENDS("breaker"),                    \
        DRILL_ENDS("alert"), DRILL_ENDS("audit"),                                                                    \
    {                                                                                                                \
        .key = "audit", .text = "the audit trail is verified from the first byte to the last",                       \
        .marks = {{.key = "whole", .text = "whole", .look = drill_look_trail, .what = 1}}, .limit_ms = 5000,         \
        .logs = {"audit"}, .ends = true                                                                              \
    }

/* ---- stories ---- */

/* How the agent's judgement is tested: lines of a plan's settings, then a line of questions each. */
#define DRILL_SELFTEST                                                                                               \
    "    selftest:\n"                                                                                                \
    "      interval: 300ms\n"                                                                                        \
    "      timeout: 2s\n"                                                                                            \
    "      questions:\n"
#define DRILL_QUESTION(name, event, answer)                                                                          \
    "        - name: " name "\n          event: '" event "'\n          expect: '" answer "'\n"
#define DRILL_ATTACK "{\"source\": \"203.0.113.7\", \"failed_logins\": 40}"

/* The tables `steps` and `figures` above a story. */
#define DRILL_TABLES                                                                                                 \
    .steps = steps, .n_steps = sizeof steps / sizeof steps[0], .figures = figures,                                   \
    .n_figures = sizeof figures / sizeof figures[0]

#endif
