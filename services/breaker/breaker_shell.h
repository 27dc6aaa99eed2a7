/* breaker_shell.h - what the files of the breaker's shell share. Private to this room. */
#ifndef REDOUBT_BREAKER_SHELL_H
#define REDOUBT_BREAKER_SHELL_H

#include "breaker/breaker_doc.h"
#include "breaker/target.h"
#include "common/log.h"
#include "common/service.h"
#include "common/subjects.h"
#include <uthash.h>

struct shell;
struct saying;

/* A target of the settings. */
struct node {
    struct breaker_target t;
    struct shell *sh;
    char *name, *subject, *doc_key, *window_key;
    int kind; /* enum set_target_kind */
    UT_hash_handle hh;
    int refs;  /* callbacks that will still come */
    bool gone; /* no longer in the settings: freed after the last of them */

    int64_t wake_ms; /* 0 = not in the heap */
    size_t heap_at;

    uint64_t streamed; /* highest epoch known to be on the stream */
    bool behind;       /* what was heard last is older than what we know: perhaps it is also the stream's last word */
    uint64_t health_epoch; /* of the newest verdict heard */
    uint64_t suspect;      /* an epoch that looked unannounced at the last sweep */
    struct saying *sayings, **sayings_end;

    char *damaged_rev, *damaged_doc; /* what the last flush found instead of a document */
    size_t damaged_rev_len, damaged_doc_len;
    uint64_t asked; /* epoch that the flush in flight has told Redis */
};

struct shell {
    struct service *s;
    struct node *nodes;  /* uthash by name */
    struct node **order; /* for the sweep */
    size_t n, sweep_at;
    struct node **heap;
    size_t heap_n, heap_cap;
    struct loop_timer deadline, store_gone, record;
    struct saying *unrecorded, **unrecorded_end;
    bool synced, store_alerted, stopped;
    int refs; /* callbacks and timers that will still come */
    struct log_limit store_errors, damaged, would_open, window_damaged;
};

/* shell */
struct node *breaker_node(struct shell *sh, const char *name); /* NULL if unknown */
void breaker_hold(struct node *n);
void breaker_release(struct node *n); /* n may be gone after it */

/* breaker_heap.c: deadlines, earliest first */
void breaker_heap_set(struct shell *sh, struct node *n, int64_t at_ms); /* 0 = none */
struct node *breaker_heap_first(const struct shell *sh);

/* breaker_state.c: Redis */
void breaker_state_flush(struct breaker_target *t, const struct breaker_delta *d, uint64_t have_epoch);
void breaker_state_put(struct breaker_target *t, const struct breaker *b, bool over, bool pending);
void breaker_state_announced(struct node *n, uint64_t epoch);
const char *breaker_state_flush_body(void);           /* the script, for its test against window.c */
void breaker_state_peek(struct node *n, store_cb cb); /* HMGET rev pending; ctx is n */

/* breaker_say.c: events, audit, alerts */
void breaker_say(struct breaker_target *t, const struct breaker *b);
void breaker_say_again(struct node *n); /* the newest, although it is on the stream: something older came after it */
bool breaker_saying(const struct node *n, uint64_t epoch);
void breaker_record_all(void *shell);
void breaker_say_store(struct shell *sh, bool gone);

/* breaker_in.c: what comes in */
void breaker_on_report(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_health(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_breaker(struct service *s, const void *message, const struct bus_msg *m);

/* breaker_cmd.c: what is asked */
void breaker_on_allow(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_show(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_open(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_close(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_reset(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_metrics(struct service *s, const void *message, const struct bus_msg *m);
void breaker_answer(struct breaker_target *t, struct breaker_request *q, enum breaker_answer a,
                    const struct breaker_result *r);

extern const struct service_desc breaker_service;

#endif
