/* backup_redis_file.h - the file of saved keys: written and read record by record; for backup_redis*.c alone.
 *
 * `redoubt-redis 1 <saved, Unix ms>\n`, then records: 'K', lengths of key and value (4 bytes each, little-endian), time left in ms (8 bytes, -1 = for ever), key, value;
 * then 'E', their number (8 bytes), and the SHA-256 of everything before it. */
#ifndef REDOUBT_CONTINUITY_BACKUP_REDIS_FILE_H
#define REDOUBT_CONTINUITY_BACKUP_REDIS_FILE_H

#include "common/err.h"
#include "continuity/backup_copy.h"
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>

#define REDIS_KEY_MAX   (1u << 20)
#define REDIS_VALUE_MAX (512u << 20)

struct redis_file {
    FILE *f;
    EVP_MD_CTX *md;
    uint64_t size, at; /* reading: of the file; both: bytes so far */
    uint64_t records;
    int64_t saved_unix_ms;
};
struct redis_record {
    char *key, *value; /* owned by the reader; until the next call */
    uint32_t key_len, value_len;
    int64_t left_ms; /* -1 = for ever */
};
/* f is the file's, both ways. 0, or -1 with the reason. */
int redis_file_begin(struct redis_file *x, const char *path, int64_t saved_unix_ms, struct err *e);
int redis_file_put(struct redis_file *x, const struct redis_record *r, struct err *e);
/* The trailer, flushed; the caller syncs fileno(x->f). */
int redis_file_end(struct redis_file *x, struct err *e);
int redis_file_open(struct redis_file *x, const char *path, struct err *e);
/* 1 = a record, 0 = that was all and the hash fits, -1 with the reason. r is zeroed by the caller before the first call. */
int redis_file_next(struct redis_file *x, struct redis_record *r, struct err *e);
void redis_record_done(struct redis_record *r);
void redis_file_close(struct redis_file *x); /* nothing open is fine */

#endif
