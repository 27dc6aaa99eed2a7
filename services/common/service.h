/* service.h - the skeleton of every service: options, settings, loop, bus, store, http, outbox, signals, drain.
 *
 * A service's main.c hands service_main() one table and nothing else. */
#ifndef REDOUBT_SERVICE_H
#define REDOUBT_SERVICE_H

#include "common/bus.h"
#include "common/http.h"
#include "common/loop.h"
#include "common/notify_gap.h"
#include "common/outbox.h"
#include "common/replica.h"
#include "common/settings.h"
#include "common/store.h"
#include "common/wire.h"

struct service;

/* Messages come decoded and validated: a bad one is counted, logged (once per kind and 10 s) and dropped before this. */
typedef void (*service_on_message)(struct service *s, const void *message, const struct bus_msg *m);
enum service_sub_kind {
    SERVICE_SUB_ALL,   /* core NATS, every replica gets each message */
    SERVICE_SUB_QUEUE, /* core NATS, one replica gets each message (queue group = service name) */
    SERVICE_SUB_WATCH, /* the present from STATE, then live (bus_watch) */
};
struct service_sub {
    const char *subject; /* wildcards allowed */
    enum service_sub_kind kind;
    const ProtobufCMessageDescriptor *desc; /* NULL: the handler decodes by itself (message is NULL) */
    service_on_message fn;
};

/* Operators' commands: `redoubt.v1.cmd.<service>.<verb>`, in a queue group. The handler must answer once, now or later, with
 * service_reply() or service_reply_message(). m is valid only inside: who answers later copies m->reply. */
struct service_cmd {
    const char *verb;
    const ProtobufCMessageDescriptor *desc;
    service_on_message fn;
};
struct service_timer {
    int64_t every_ms;
    void (*fn)(struct service *s); /* not called while the service drains */
};

/* In a service's desc: SERVICE_TABLE(subs) for a table of that name, likewise cmds and timers. */
#define SERVICE_TABLE(table) .table = table, .n_##table = sizeof table / sizeof(table)[0]

enum { SERVICE_STORE = 1, SERVICE_HTTP = 2, SERVICE_OUTBOX = 4 };
struct service_desc {
    const char *name;        /* "breaker" */
    const char *description; /* one line for --help and $SRV.INFO */
    unsigned needs;          /* SERVICE_STORE | ... */
    const struct service_sub *subs;
    size_t n_subs;
    const struct service_cmd *cmds;
    size_t n_cmds;
    const struct service_timer *timers;
    size_t n_timers;
    /* All may be NULL. check: what the settings' own tables cannot see, before they are used, at the start and on reload: false with lines in r. */
    bool (*check)(const struct settings *settings, struct conf_report *r);
    /* start: build the state into s->state; -1 = do not start (text in e). */
    int (*start)(struct service *s, struct err *e);
    void (*on_bus_up)(struct service *s);
    void (*on_bus_down)(struct service *s);
    void (*on_bus_turn)(struct service *s);     /* after each turn of messages (bus.h: on_turn) */
    void (*on_watch_synced)(struct service *s); /* all watches have replayed the present */
    void (*on_store_up)(struct service *s);
    void (*on_store_down)(struct service *s);
    void (*on_reload)(struct service *s, const struct settings *was); /* s->settings is the new one */
    /* Stop taking work; call service_drained() when nothing is in hand (may be at once). The runtime waits 4 s at most. */
    void (*drain)(struct service *s);
    void (*stop)(struct service *s); /* free s->state */
};

struct service {
    const struct service_desc *desc;
    struct settings *settings;
    struct loop loop;
    struct replica replica;
    const char *instance; /* replica.instance */
    char boot_id[17];     /* random, new at each start */
    struct bus *bus;
    struct store *store;          /* if SERVICE_STORE */
    struct http *http;            /* if SERVICE_HTTP */
    struct outbox *outbox;        /* if SERVICE_OUTBOX */
    struct notify_alerts *alerts; /* the same */
    struct notify_gap gap;        /* audit records that are missing */
    bool draining;
    void *state;
    void *priv;
};
/* $REDOUBT_INSTANCE_FILE, if it is set, is written once the service has started: one line, `redoubt-<service>.<instance>`, the end of its
 * $SRV.PING subject.
 * Options: -c FILE (default $REDOUBT_CONFIG, then /etc/redoubt/redoubt.yaml), --check, --version, --help. Exit codes:
 * 0 drained, 1 failed, 2 wrong usage or settings. SIGTERM/SIGINT drain, SIGHUP reloads. */
int service_main(int argc, char **argv, const struct service_desc *d);
bool service_tilted(const struct service *s);
const char *service_config_path(const struct service *s); /* of the settings file that it reads */
void service_drained(struct service *s);
/* Counts and logs a bad message, at most once per 10 s and kind. `what` is a constant text. */
void service_bad_input(struct service *s, const char *what, const struct bus_msg *m, const char *why);
/* Unique id for messages: "<boot_id>-<counter>"; static buffer per call site: buf of 48. */
const char *service_new_id(struct service *s, char buf[static 48]);

/* Answer to a command. */
void service_reply(struct service *s, const char *reply_to, int command_status, uint64_t epoch, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void service_reply_message(struct service *s, const char *reply_to, const void *message);

/* ---- what every service says (notify.c) ---- */

/* Publishes a message to `subject` on its stream, kept at until acknowledged (bus_store). id may be NULL = new. cb may be NULL. */
void service_announce(struct service *s, const char *subject, const char *id, const void *message, bus_stored_cb cb,
                      void *ctx);
/* Raises an alert by way of the outbox; the last way, too (last_resort.h), if the bus does not take it in time. Fill what you know: id, source,
 * raised_unix_ms are added. */
void service_alert(struct service *s, PB(Alert) * a);
/* The same; done (may be NULL) tells when it is durable (0) or that it could not be (-1): it was sent to the bus directly then. */
void service_alert_durable(struct service *s, PB(Alert) * a, outbox_cb done, void *ctx);
/* The same, and the last way at once: the alert service itself is in doubt. */
void service_alert_last(struct service *s, PB(Alert) * a, const char *why);
/* Appends to the trail by way of the outbox; done (may be NULL) tells when it is durable (0) or that it could not be (-1).
 * What then goes neither by the bus alone is counted, and said in a gap record (`audit.gap`) as soon as something gets through; strict
 * records are the caller's to refuse, and no gap. Fill action, actor, subject, outcome, ...; id, service, instance, times are added. Strict acts wait for done. */
void service_audit(struct service *s, PB(AuditRecord) * r, outbox_cb done, void *ctx);

/* Many at once, up to 100, as one message. Fill them as above; strict = all of them are, and nothing goes round the outbox. */
void service_audit_batch(struct service *s, PB(AuditRecord) * *records, size_t n, bool strict, outbox_cb done,
                         void *ctx);

#endif
