/* subjects.h - the subjects, streams and name rules of the contract, once. proto/README.md explains them. */
#ifndef REDOUBT_SUBJECTS_H
#define REDOUBT_SUBJECTS_H

#include <stdbool.h>
#include <stddef.h>

#define SUBJECT_PREFIX                  "redoubt.v1."
#define SUBJECT_REPORT                  SUBJECT_PREFIX "report."    /* + target */
#define SUBJECT_HEARTBEAT               SUBJECT_PREFIX "heartbeat." /* + agent */
#define SUBJECT_HEALTH                  SUBJECT_PREFIX "health."    /* + target */
#define SUBJECT_BREAKER                 SUBJECT_PREFIX "breaker."   /* + target */
#define SUBJECT_DIRECTIVE               SUBJECT_PREFIX "directive." /* + agent */
#define SUBJECT_ACK                     SUBJECT_PREFIX "ack."       /* + agent */
#define SUBJECT_ACTION                  SUBJECT_PREFIX "action."    /* + agent */
#define SUBJECT_QUEUE                   SUBJECT_PREFIX "queue."     /* + agent.priority: actions that wait */
#define SUBJECT_ALERT                   SUBJECT_PREFIX "alert"
#define SUBJECT_DELIVERY                SUBJECT_PREFIX "delivery."     /* + alert id */
#define SUBJECT_ROLLBACK                SUBJECT_PREFIX "rollback."     /* + deployment */
#define SUBJECT_VERSION                 SUBJECT_PREFIX "version."      /* + deployment.id */
#define SUBJECT_SHARE                   SUBJECT_PREFIX "share."        /* + deployment */
#define SUBJECT_INCIDENT                SUBJECT_PREFIX "incident."     /* + id */
#define SUBJECT_AUDIT                   SUBJECT_PREFIX "audit."        /* + service */
#define SUBJECT_CMD                     SUBJECT_PREFIX "cmd."          /* + service.verb */
#define SUBJECT_MONITOR                 SUBJECT_PREFIX "monitor."      /* + agent */
#define SUBJECT_DEAD                    SUBJECT_PREFIX "dead."         /* + stream */
#define SUBJECT_PROBLEM                 SUBJECT_PREFIX "problem."      /* + id of the problem */
#define SUBJECT_SILENCE                 SUBJECT_PREFIX "silence."      /* + id */
#define SUBJECT_PULSE                   SUBJECT_PREFIX "pulse."        /* + service */
#define SUBJECT_CHECKPOINT              SUBJECT_PREFIX "checkpoint."   /* + chain */
#define SUBJECT_CONTINUITY              SUBJECT_PREFIX "continuity."   /* + what: below */
#define SUBJECT_PARCEL                  SUBJECT_PREFIX "parcel."       /* + reason.node.bucket: alerts that wait */
#define SUBJECT_CONTINUITY_INCIDENT     SUBJECT_CONTINUITY "incident." /* + id */
#define SUBJECT_CONTINUITY_AGENT        SUBJECT_CONTINUITY "agent."    /* + agent */
#define SUBJECT_CONTINUITY_BACKUP       SUBJECT_CONTINUITY "backup."   /* + source */
#define SUBJECT_CONTINUITY_DRILL        SUBJECT_CONTINUITY "drill."    /* + name */
#define SUBJECT_CONTINUITY_DEMONSTRATED SUBJECT_CONTINUITY "demonstrated." /* + objective[.scope] */
#define SUBJECT_CONTINUITY_TIME         SUBJECT_CONTINUITY "time"
#define SUBJECT_CONTINUITY_STATUS       SUBJECT_CONTINUITY "status"
#define SUBJECT_CONTINUITY_CONFIG       SUBJECT_CONTINUITY "config"
/* Kept on no stream: */
#define SUBJECT_SHARED                  SUBJECT_PREFIX "shared."      /* + deployment */
#define SUBJECT_OBSERVATION             SUBJECT_PREFIX "observation." /* + target: between watchers */
#define SUBJECT_TRAFFIC                 SUBJECT_PREFIX "traffic."     /* + target */
#define SUBJECT_ADVICE                  SUBJECT_PREFIX "advice."      /* + target */
#define SUBJECT_DECISION                SUBJECT_PREFIX "decision."    /* + agent */
#define SUBJECT_SELFTEST                SUBJECT_PREFIX "selftest."    /* + agent */
#define SUBJECT_FENCE                   SUBJECT_PREFIX "fence."       /* + agent */
#define SUBJECT_FENCED                  SUBJECT_PREFIX "fenced."      /* + agent */

#define STREAM_STATE   "REDOUBT_STATE"
#define STREAM_EVENTS  "REDOUBT_EVENTS"
#define STREAM_ALERTS  "REDOUBT_ALERTS"
#define STREAM_AUDIT   "REDOUBT_AUDIT"
#define STREAM_ACTIONS "REDOUBT_ACTIONS"
#define STREAM_DEAD    "REDOUBT_DEAD"
#define STREAM_PARCELS "REDOUBT_PARCELS"

#define NAME_MAX_LEN    64  /* a token: agent, reporter, service */
#define TARGET_MAX_LEN  128 /* a dotted path of tokens */
#define SUBJECT_MAX_LEN 256
#define MESSAGE_MAX     65536

/* A token: 1 to NAME_MAX_LEN of [a-z0-9_-]. */
bool name_token_ok(const char *s);
/* A target: tokens joined by dots, 1 to TARGET_MAX_LEN in all. */
bool name_target_ok(const char *s);
/* The part of `subject` after `prefix`, or NULL if it does not start with it or nothing follows. */
const char *subject_tail(const char *subject, const char *prefix);

#endif
