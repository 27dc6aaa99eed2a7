/* alert_local.h - what this process itself remembers: copies of problems, the last ones used, and how far alerts are. Bounded. */
#ifndef REDOUBT_ALERT_LOCAL_H
#define REDOUBT_ALERT_LOCAL_H

#include "alert/alert_doc.h"
#include <uthash.h>

#define ALERT_COPIES_MAX 1024
#define ALERT_SEEN_MAX   4096
#define ALERT_PROGRESS_MAX                                                                                           \
    (ALERT_WHY_MAX + 2) /* `n` to be told, `q` only recorded, `m<why>` muted, `d<channel>` done */

struct alert_ask;
/* A problem's document, packed; `asks` wait for their turn at it. */
struct alert_copy {
    char id[ALERT_ID_LEN + 1];
    uint64_t rev; /* 0 = nothing is known of it */
    void *data;
    size_t len;
    bool open;
    int64_t due_ms;
    struct alert_ask *first, **last;
    UT_hash_handle hh;
};
struct alert_seen {
    char id[65];
    char progress[ALERT_PROGRESS_MAX];
    UT_hash_handle hh;
};
struct alert_local {
    struct alert_copy *copies; /* in order of use */
    struct alert_seen *seen;
};

/* Found or new, and the last to be forgotten; NULL if memory is out. */
struct alert_copy *alert_local_of(struct alert_local *l, const char *id);
struct alert_copy *alert_local_find(const struct alert_local *l, const char *id);
/* Keeps a document: data is taken over. */
void alert_local_keep(struct alert_copy *c, const PB(ProblemChanged) * d, void *data, size_t len);
/* Unpacked, to be freed with wire_free(); NULL if nothing is known. */
PB(ProblemChanged) * alert_local_get(const struct alert_copy *c);
/* Nothing is known of it any more; the copy itself goes when nobody asks about it. */
void alert_local_forget(struct alert_local *l, struct alert_copy *c);
void alert_local_remember(struct alert_local *l, const char *alert_id, const char *progress);
const char *alert_local_progress(const struct alert_local *l, const char *alert_id); /* "" if none */
void alert_local_clear(struct alert_local *l);                                       /* nobody asks any more */

#endif
