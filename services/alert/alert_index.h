/* alert_index.h - problems in order, in Redis: all of them, those that are there, and those that time brings up.
 *
 * Sorted sets below one tag, of ids: `redoubt:{al}:index`, `...:open` (both in order of id) and `...:due` (in order of time). They follow the
 * documents (alert_state.c) one command later; what a crash leaves between the two is mended by the sweep (alert_sweep.c). */
#ifndef REDOUBT_ALERT_INDEX_H
#define REDOUBT_ALERT_INDEX_H

#include "alert/alert_doc.h"
#include "common/store.h"

#define ALERT_PAGE_MAX 100

/* As a document says; all are asked for and nobody waits. */
void alert_index_set(struct store *s, const char *id, bool open, int64_t due_ms);
void alert_index_drop(struct store *s, const char *id);

struct alert_page {
    bool ok; /* false: Redis did not answer */
    size_t n;
    char ids[ALERT_PAGE_MAX][ALERT_ID_LEN + 1];
    uint64_t total; /* alert_index_page: of the whole index; alert_index_due: 1 if the mark stands */
};
typedef void (*alert_page_cb)(void *ctx, const struct alert_page *p);
/* What is due at now_ms, the longest first; and whether Redis still has its mark, which it has lost with all else when it was emptied. */
void alert_index_due(struct store *s, int64_t now_ms, alert_page_cb cb, void *ctx);
void alert_index_mark(struct store *s);
/* Up to ALERT_PAGE_MAX ids behind `after` ("" = from the first): of those that are there, or of all. */
void alert_index_page(struct store *s, bool open, const char *after, alert_page_cb cb, void *ctx);
/* Makes the next page of those that are there due at once; the page says which, its last is the next `after`. */
void alert_index_wake(struct store *s, const char *after, alert_page_cb cb, void *ctx);

#endif
