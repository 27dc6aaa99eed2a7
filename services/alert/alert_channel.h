/* alert_channel.h - a way to tell people: one small table of functions per kind, and a queue with a circuit per channel. */
#ifndef REDOUBT_ALERT_CHANNEL_H
#define REDOUBT_ALERT_CHANNEL_H

#include "alert/alert_bucket.h"
#include "alert/alert_circuit.h"
#include "alert/alert_message.h"
#include "alert/alert_outcome.h"
#include "common/service.h"

#define ALERT_REFUSED_MAX 32

struct alert_room;
struct alert_channel;
struct alert_maker; /* alert_body.h */

/* How one attempt ended. */
struct alert_result {
    struct alert_outcome outcome;
    const char *detail; /* one line for people: the other side's words, or what went wrong; "" if none */
    int64_t started_unix_ms;
    const char *const *refused; /* accepted, but not for these receivers: one line each */
    size_t n_refused;
};
typedef void (*alert_job_done)(void *ctx, const struct alert_result *r);

/* One attempt: waiting in its channel's queue, then running. */
struct alert_job {
    struct alert_channel *channel;
    struct alert_job *prev, *next;
    const struct alert_message
        *message; /* the asker's: valid until `send` has returned, or the job is dropped before */
    bool urgent;
    bool
        patient; /* holds many alerts: waits for its turn as an urgent one does, instead of becoming a digest again */
    bool forced; /* a person asks whether the channel works: goes whatever its rate; set by the asker at once */
    bool surplus; /* there was no room for it */
    bool running;
    int64_t timeout_ms, start_by_ms; /* see ALERT_SEND */
    int64_t due_ms;                  /* running: given up at this time whatever the channel does */
    int64_t started_unix_ms;
    char id[65]; /* the message's; what follows is its, too: for a kind that needs it after `send` has returned */
    enum alert_message_kind kind;
    int severity;
    bool resolved;
    size_t total;
    alert_job_done done; /* NULL once nobody waits any more */
    void *ctx;
    char *refused[ALERT_REFUSED_MAX]; /* see alert_job_refuse() */
    size_t n_refused;
};

/* One per type of the settings. */
struct alert_kind {
    const char *name;
    enum alert_proto proto;
    int at_once; /* attempts of one channel under way at a time */
    int rate_per_min,
        burst; /* messages that the other side takes; 0 = no limit. These three: unless the settings say otherwise */
    /* Starts an attempt; everything needed later is copied. Ends by alert_job_end(), later or at once. */
    void (*send)(struct alert_channel *c, struct alert_job *j);
    /* A person has taken on a problem: tells the other side so, if that is something there. May be NULL. */
    void (*acked)(struct alert_channel *c, const PB(Alert) * a, const char *by);
    int (*open)(struct alert_channel *c); /* may be NULL; -1 = memory is out */
    void (*close)(struct alert_channel *c);
    /* The service ends: attempts under way end now, unless something else of the service ends them. May be NULL. */
    void (*stop)(struct alert_channel *c);
};
extern const struct alert_kind alert_kind_email, alert_kind_slack, alert_kind_file;
extern const struct alert_kind alert_kind_syslog, alert_kind_nats, alert_kind_exec;
extern const struct alert_kind alert_kind_webhook, alert_kind_pagerduty, alert_kind_teams, alert_kind_discord,
    alert_kind_ntfy;

struct alert_channel {
    struct alert_room *room;
    const struct alert_kind *kind;
    struct set_channel *own; /* a copy of the settings, */
    struct set_channel set;  /* and the same by value */
    struct alert_circuit circuit;
    struct alert_bucket_rule rule;
    struct alert_bucket bucket;
    struct alert_job *waiting; /* urgent ones first */
    struct alert_job *waiting_last;
    struct alert_job *running;
    int n_waiting, n_running;
    int at_once;
    uint64_t accepted, failed; /* attempts */
    int64_t last_accepted_unix_ms;
    char last_error[256];
    int refs;                          /* settings, deliveries, jobs, work of its kind */
    struct alert_channel *prev, *next; /* of all there are, those of earlier settings included */
    struct alert_maker *maker;         /* NULL until its template is first run */
    void *priv;
};

/* To be called by kinds, exactly once per job; frees it. detail may be NULL. */
void alert_job_end(struct alert_job *j, const struct alert_outcome *o, const char *detail);
/* Before that: the channel takes the message, but not for this receiver ("ops@example.org: 550 no such user"). */
void alert_job_refuse(struct alert_job *j, const char *receiver_and_why);
/* The mapping that HTTP and SMTP share. */
struct alert_outcome alert_outcome_of(const struct http_result *r);

/* alert_queue.c */
struct alert_channel *alert_channel_new(struct alert_room *room, const struct set_channel *set);
bool alert_channel_same(const struct alert_channel *c, const struct set_channel *set);
void alert_channel_ref(struct alert_channel *c);
void alert_channel_unref(struct alert_channel *c);
/* Queues an attempt; done comes later, never from inside, unless alert_job_drop() takes it back. NULL if memory is out. One for which the
 * queue has no room, or that would wait too long for what the channel takes a minute, ends with ALERT_FAULT_OVERFLOW. */
struct alert_job *alert_channel_send(struct alert_channel *c, const struct alert_message *m, bool urgent,
                                     int64_t timeout_ms, int64_t start_by_ms, alert_job_done done, void *ctx);
/* A person has taken on the problem of this alert: every channel of the settings whose other side keeps such things is told, once; what comes of it
 * is logged. */
void alert_channels_acked(struct alert_room *room, const PB(Alert) * a, const char *by);
/* Nobody waits for it any more: out of the queue if it has not begun, else its end is ignored. NULL is fine. */
void alert_job_drop(struct alert_job *j);
/* All that wait are told to go past this channel. */
void alert_channel_flush(struct alert_channel *c);
/* Ends what is overdue; returns when to look again, INT64_MAX = no need. */
int64_t alert_channel_tick(struct alert_channel *c, int64_t now_ms);

/* What the file and Slack kinds write, for tests: malloc'ed, NULL if memory is out. */
char *alert_slack_payload(const struct alert_message *m);

#endif
