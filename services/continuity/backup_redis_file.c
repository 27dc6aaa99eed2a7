/* backup_redis_file.c - the file of saved keys: written, read, and verified. */
#include "continuity/backup_redis_file.h"
#include "continuity/backup_redis.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER "redoubt-redis 1 "
#define HASH   32

static int begin(struct redis_file *x, const char *path, int flags, const char *mode, struct err *e)
{
    *x = (struct redis_file){0};
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    x->f = fd >= 0 ? fdopen(fd, mode) : NULL;
    x->md = EVP_MD_CTX_new();
    if (x->f && x->md && EVP_DigestInit_ex(x->md, EVP_sha256(), NULL))
        return 0;
    int failed = errno;
    if (!x->f && fd >= 0)
        close(fd);
    redis_file_close(x);
    return err_set(e, "cannot open %.300s: %s", path, strerror(failed));
}

void redis_file_close(struct redis_file *x)
{
    if (x->f)
        fclose(x->f);
    EVP_MD_CTX_free(x->md);
    x->f = NULL;
    x->md = NULL;
}

/* ---- writing ---- */

static int put(struct redis_file *x, const void *data, size_t len, struct err *e)
{
    if ((len > 0 && fwrite(data, 1, len, x->f) != len) || !EVP_DigestUpdate(x->md, data, len))
        return err_set(e, "cannot write the copy of Redis: %s", strerror(errno));
    x->at += len;
    return 0;
}

int redis_file_begin(struct redis_file *x, const char *path, int64_t saved_unix_ms, struct err *e)
{
    char head[64];
    int n = snprintf(head, sizeof head, HEADER "%" PRId64 "\n", saved_unix_ms);
    return begin(x, path, O_WRONLY | O_CREAT | O_TRUNC, "w", e) ? -1 : put(x, head, (size_t)n, e);
}

int redis_file_put(struct redis_file *x, const struct redis_record *r, struct err *e)
{
    unsigned char head[17] = {'K'};
    uint32_t key_len = htole32(r->key_len), value_len = htole32(r->value_len);
    uint64_t left = htole64((uint64_t)r->left_ms);
    if (r->key_len > REDIS_KEY_MAX || r->value_len > REDIS_VALUE_MAX)
        return err_set(e, "the key %.100s is too large to be saved", r->key);
    memcpy(head + 1, &key_len, 4);
    memcpy(head + 5, &value_len, 4);
    memcpy(head + 9, &left, 8);
    x->records++;
    return put(x, head, sizeof head, e) || put(x, r->key, r->key_len, e) || put(x, r->value, r->value_len, e) ? -1
                                                                                                              : 0;
}

int redis_file_end(struct redis_file *x, struct err *e)
{
    unsigned char tail[9] = {'E'}, hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    uint64_t n = htole64(x->records);
    memcpy(tail + 1, &n, 8);
    if (put(x, tail, sizeof tail, e))
        return -1;
    if (!EVP_DigestFinal_ex(x->md, hash, &len) || len != HASH || fwrite(hash, 1, HASH, x->f) != HASH || fflush(x->f))
        return err_set(e, "cannot write the copy of Redis: %s", strerror(errno));
    x->at += HASH;
    return 0;
}

/* ---- reading ---- */

/* False at the end of the file, or if it cannot be read. */
static bool get(struct redis_file *x, void *data, size_t len)
{
    if (len > x->size - x->at || (len > 0 && fread(data, 1, len, x->f) != len) || !EVP_DigestUpdate(x->md, data, len))
        return false;
    x->at += len;
    return true;
}

int redis_file_open(struct redis_file *x, const char *path, struct err *e)
{
    struct stat st;
    char head[64];
    size_t n = 0;
    if (begin(x, path, O_RDONLY, "r", e))
        return -1;
    if (fstat(fileno(x->f), &st) || !S_ISREG(st.st_mode)) {
        redis_file_close(x);
        return err_set(e, "%.300s is no file", path);
    }
    x->size = (uint64_t)st.st_size;
    while (n < sizeof head - 1 && get(x, head + n, 1) && head[n] != '\n')
        n++;
    head[n] = '\0';
    if (strncmp(head, HEADER, strlen(HEADER)) != 0) {
        redis_file_close(x);
        return err_set(e, "%.300s is not a copy of Redis that this program can read", path);
    }
    x->saved_unix_ms = strtoll(head + strlen(HEADER), NULL, 10);
    return 0;
}

void redis_record_done(struct redis_record *r)
{
    free(r->key);
    free(r->value);
    *r = (struct redis_record){0};
}

static int at_end(struct redis_file *x, struct err *e)
{
    unsigned char is[HASH], hash[EVP_MAX_MD_SIZE];
    uint64_t n;
    unsigned len = 0;
    if (!get(x, &n, sizeof n) || !EVP_DigestFinal_ex(x->md, hash, &len) || x->size - x->at != HASH ||
        fread(is, 1, HASH, x->f) != HASH)
        return err_set(e, "the copy of Redis is cut short: take another copy");
    if (le64toh(n) != x->records || memcmp(is, hash, HASH) != 0)
        return err_set(e, "the copy of Redis is not what was saved (SHA-256 differs): take another copy");
    return 0;
}

int redis_file_next(struct redis_file *x, struct redis_record *r, struct err *e)
{
    unsigned char kind = 0, head[16];
    uint32_t key_len, value_len;
    uint64_t left;
    redis_record_done(r);
    if (!get(x, &kind, 1))
        return err_set(e, "the copy of Redis is cut short: take another copy");
    if (kind == 'E')
        return at_end(x, e);
    if (kind != 'K' || !get(x, head, sizeof head))
        return err_set(e, "the copy of Redis is damaged at byte %" PRIu64 ": take another copy", x->at);
    memcpy(&key_len, head, 4);
    memcpy(&value_len, head + 4, 4);
    memcpy(&left, head + 8, 8);
    r->key_len = le32toh(key_len);
    r->value_len = le32toh(value_len);
    r->left_ms = (int64_t)le64toh(left);
    if (r->key_len > REDIS_KEY_MAX || (uint64_t)r->key_len + r->value_len > x->size - x->at)
        return err_set(e, "the copy of Redis is damaged at byte %" PRIu64 ": take another copy", x->at);
    r->key = malloc((size_t)r->key_len + 1);
    r->value = malloc((size_t)r->value_len + 1);
    if (!r->key || !r->value)
        return err_set(e, "out of memory for a key of %" PRIu32 " bytes", r->value_len);
    if (!get(x, r->key, r->key_len) || !get(x, r->value, r->value_len))
        return err_set(e, "the copy of Redis cannot be read: %s", strerror(errno));
    r->key[r->key_len] = '\0';
    x->records++;
    return 1;
}

int backup_redis_verify(const char *dir, const atomic_bool *stop, struct backup_copy_sum *ret, struct err *e)
{
    char path[PATH_MAX];
    struct redis_file x;
    struct redis_record r = {0};
    int more = 1;
    snprintf(path, sizeof path, "%s/" BACKUP_REDIS_FILE, dir);
    if (redis_file_open(&x, path, e))
        return -1;
    while (more == 1)
        more = stop && atomic_load(stop) ? err_set(e, "broken off while %.300s was read", path)
                                         : redis_file_next(&x, &r, e);
    redis_record_done(&r);
    if (more == 0)
        *ret = (struct backup_copy_sum){
            .items = x.records, .files = 1, .bytes = x.size, .saved_unix_ms = x.saved_unix_ms};
    redis_file_close(&x);
    return more;
}
