/* backup_list.h - what is saved, entry by entry, with the hash of each file: so that what has not changed need not be read again, and what has can be proven. Blocks: for worker threads. */
#ifndef REDOUBT_CONTINUITY_BACKUP_LIST_H
#define REDOUBT_CONTINUITY_BACKUP_LIST_H

#include "common/tree.h"

struct backup_entry {
    size_t root;
    char *name; /* below that root, "" or "/..." */
    char *what; /* as tree.h says it: "f <hash>", "d", ... */
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
};
struct backup_list {
    struct backup_entry *entries; /* in order of root and name */
    size_t n, room;
    int64_t listed_ns; /* wall clock when it was begun */
    struct tree_sum sum;
    unsigned refs; /* changed on the loop only */
};
/* Of n trees. was: an earlier one of the same, may be NULL; links: files may have got other names since (their ctime does not count). NULL with the reason in e. */
struct backup_list *backup_list_of(const char *const *roots, size_t n, const struct backup_list *was, bool links,
                                   bool moving, const atomic_bool *stop, struct err *e);
struct backup_list *backup_list_ref(struct backup_list *l); /* NULL is fine; likewise below */
void backup_list_unref(struct backup_list *l);
const struct backup_entry *backup_list_find(const struct backup_list *l, size_t root, const char *name);
/* Same names, kinds, contents. The first difference in words, if not. */
bool backup_list_same(const struct backup_list *was, const struct backup_list *is, char *buf, size_t size);
/* Indexes in `is` of files that are new or other than in `was` (NULL: all), up to max; returns how many there are. Those that are a further name of one file
 * cannot be looked at by themselves: *ret_linked. */
size_t backup_list_changed(const struct backup_list *was, const struct backup_list *is, size_t *ret, size_t max,
                           uint64_t *ret_bytes, bool *ret_linked);

#endif
