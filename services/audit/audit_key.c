/* audit_key.c - reads the secret key, and changes it so that a crash at any moment leaves one that the trail can go on with. */
#include "audit/audit_key.h"
#include "audit/audit_verify.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEXT     ".new"
#define KEYS_MAX (AUDIT_KEYS_MAX * 1024)
#define HEX_MAX  (2 * AUDIT_SECRET_BYTES + 1)

/* 1 = there is no such file. */
static int read_secret(const char *path, struct audit_key *k, struct err *e)
{
    char hex[HEX_MAX + 16];
    struct stat st;
    size_t bytes = 0;
    unsigned char again[AUDIT_SECRET_BYTES], public_key[AUDIT_PUBLIC_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 1;
    if (fd < 0 || fstat(fd, &st)) {
        err_set(e, "cannot read the key %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077)) {
        close(fd);
        return err_set(e, "the key %s has mode %04o: others than its owner could read it; chmod 600 it", path,
                       (unsigned)st.st_mode & 07777);
    }
    ssize_t n = read(fd, hex, sizeof hex);
    close(fd);
    int bad = n < 0 || sodium_hex2bin(k->secret, sizeof k->secret, hex, (size_t)n, "\r\n ", &bytes, NULL) ||
              bytes != sizeof k->secret;
    sodium_memzero(hex, sizeof hex);
    /* Its second half is the public key, which must be that of the first: a damaged key would sign what nobody can check. */
    if (!bad)
        bad = crypto_sign_seed_keypair(public_key, again, k->secret) ||
              sodium_memcmp(again, k->secret, sizeof again) != 0;
    sodium_memzero(again, sizeof again);
    if (bad)
        return err_set(e, "%s is not an Ed25519 key of %d bytes in hexadecimal; put the right one back", path,
                       AUDIT_SECRET_BYTES);
    crypto_sign_ed25519_sk_to_pk(k->public_key, k->secret);
    return 0;
}

static int make_secret(const struct audit_key_place *p, const char *name, struct audit_key *k, struct err *e)
{
    char hex[HEX_MAX];
    crypto_sign_keypair(k->public_key, k->secret);
    sodium_bin2hex(hex, sizeof hex, k->secret, sizeof k->secret);
    int rc = audit_disk_replace(p->disk, p->dir_fd, name, hex, strlen(hex), 0600);
    sodium_memzero(hex, sizeof hex);
    return rc ? err_set(e, "cannot write %s/%s: %s", p->dir, name, strerror(errno)) : 0;
}

static unsigned char *read_keys(const struct audit_key_place *p, size_t *ret_len, struct err *e)
{
    if (faccessat(p->dir_fd, AUDIT_KEYS_FILE, F_OK, 0) != 0 && errno == ENOENT) {
        *ret_len = 0;
        return calloc(1, 1);
    }
    return audit_read_file(p->dir, AUDIT_KEYS_FILE, KEYS_MAX, ret_len, e);
}

static void next_path(const struct audit_key *k, char out[static sizeof k->path + 8])
{
    snprintf(out, sizeof k->path + 8, "%s" NEXT, k->path);
}

/* The trail says that the key was changed, and the file still holds the one before: the crash came between the two. */
static int finish(const struct audit_key_place *p, struct audit_key *k, bool *ret_changed, struct err *e)
{
    char path[sizeof k->path + 8];
    size_t len;
    struct audit_keys *keys = malloc(sizeof *keys);
    unsigned char *file = keys ? read_keys(p, &len, e) : NULL;
    bool behind = file && audit_keys_parse((char *)file, len, NULL, keys, NULL) == 0 &&
                  memcmp(keys->list[keys->n - 1].key, k->public_key, AUDIT_PUBLIC_BYTES) != 0;
    struct audit_key next = *k;
    next_path(k, path);
    /* Another key than any the trail knows is not for here to judge: the trail will not verify with it. */
    if (behind && read_secret(path, &next, NULL) == 0 &&
        memcmp(keys->list[keys->n - 1].key, next.public_key, AUDIT_PUBLIC_BYTES) == 0) {
        *k = next;
        *ret_changed = true;
    }
    free(file);
    free(keys);
    sodium_memzero(&next, sizeof next);
    return *ret_changed ? audit_key_take(p, k, e) : 0;
}

int audit_key_open(const struct audit_key_place *p, const char *key_file, struct audit_key *ret, bool *ret_changed,
                   struct err *e)
{
    *ret = (struct audit_key){.own = !key_file || !*key_file};
    *ret_changed = false;
    if (ret->own)
        snprintf(ret->path, sizeof ret->path, "%s/" AUDIT_SECRET_FILE, p->dir);
    else
        snprintf(ret->path, sizeof ret->path, "%s", key_file);
    int rc = read_secret(ret->path, ret, e);
    if (rc == 1 && ret->own)
        return make_secret(p, AUDIT_SECRET_FILE, ret, e);
    if (rc == 1)
        return err_set(e, "the key %s is not there; audit.key_file names it", ret->path);
    return rc ? rc : finish(p, ret, ret_changed, e);
}

int audit_key_next(const struct audit_key_place *p, const struct audit_key *k, struct audit_key *ret, struct err *e)
{
    char path[sizeof k->path + 8];
    *ret = *k;
    if (k->own)
        return make_secret(p, AUDIT_SECRET_FILE NEXT, ret, e);
    next_path(k, path);
    int rc = read_secret(path, ret, e);
    if (rc == 1)
        return err_set(e, "the next key is not there: put it into %s (64 bytes, hexadecimal, mode 0600) first", path);
    if (rc == 0 && memcmp(ret->public_key, k->public_key, AUDIT_PUBLIC_BYTES) == 0)
        return err_set(e, "%s is the present key; put the next one there", path);
    return rc;
}

int audit_key_announce(const struct audit_key_place *p, const struct audit_checkpoint *c, const struct audit_key *old,
                       const struct audit_key *next, struct err *e)
{
    struct audit_checkpoint change = *c;
    change.former = false;
    change.kind = AUDIT_NOTE_ROTATION;
    change.rotations = c->rotations + 1;
    memcpy(change.old_key, old->public_key, AUDIT_PUBLIC_BYTES);
    memcpy(change.next_key, next->public_key, AUDIT_PUBLIC_BYTES);
    char note[AUDIT_NOTE_MAX];
    size_t n = audit_checkpoint_sign(&change, AUDIT_KEY_NAME, old->secret, note), len;
    if (audit_note_sign(note, &n, sizeof note, AUDIT_KEY_NAME, next->secret))
        return err_set(e, "the note of the key's change is too long");
    unsigned char *file = read_keys(p, &len, e), *more = file ? realloc(file, len + n) : NULL;
    if (!more) {
        free(file);
        return file ? err_set(e, "out of memory") : -1;
    }
    memcpy(more + len, note, n);
    /* What could not be read again must not be written. */
    struct audit_keys *keys = malloc(sizeof *keys);
    int rc = keys ? audit_keys_parse((char *)more, len + n, next->public_key, keys, e) : err_set(e, "out of memory");
    free(keys);
    if (rc == 0 && audit_disk_replace(p->disk, p->dir_fd, AUDIT_KEYS_FILE, more, len + n, 0644))
        rc = err_set(e, "cannot write %s/" AUDIT_KEYS_FILE ": %s", p->dir, strerror(errno));
    free(more);
    return rc;
}

static int sync_parent(const struct audit_disk *disk, const char *path)
{
    char dir[sizeof((struct audit_key *)0)->path];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = 0;
    int fd = open(slash && slash != dir ? dir : slash ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = disk->sync_dir(fd);
    close(fd);
    return rc;
}

/* An earlier try got as far as that. */
static bool is_taken(const struct audit_key *next)
{
    struct audit_key is = *next;
    bool same =
        read_secret(next->path, &is, NULL) == 0 && memcmp(is.public_key, next->public_key, AUDIT_PUBLIC_BYTES) == 0;
    sodium_memzero(&is, sizeof is);
    return same;
}

int audit_key_take(const struct audit_key_place *p, struct audit_key *next, struct err *e)
{
    char path[sizeof next->path + 8];
    int rc;
    next_path(next, path);
    if (is_taken(next))
        return audit_key_publish(p, next, e);
    if (next->own) {
        rc = p->disk->rename(p->dir_fd, AUDIT_SECRET_FILE NEXT, p->dir_fd, AUDIT_SECRET_FILE) ||
             p->disk->sync_dir(p->dir_fd);
    } else {
        rc = p->disk->rename(AT_FDCWD, path, AT_FDCWD, next->path);
        /* A read-only mount of secrets: the key is used where it stands, now and after a start. */
        if (rc && (errno == EROFS || errno == EACCES || errno == EPERM || errno == EBUSY))
            return audit_key_publish(p, next, e);
        rc = rc || sync_parent(p->disk, next->path);
    }
    if (rc)
        return err_set(e, "cannot rename %s to %s: %s", path, next->path, strerror(errno));
    return audit_key_publish(p, next, e);
}

int audit_key_publish(const struct audit_key_place *p, const struct audit_key *k, struct err *e)
{
    char hex[2 * AUDIT_PUBLIC_BYTES + 1];
    size_t n = 0;
    sodium_bin2hex(hex, sizeof hex, k->public_key, sizeof k->public_key);
    unsigned char *is = audit_read_file(p->dir, AUDIT_PUBLIC_FILE, 256, &n, NULL);
    bool same = is && n == strlen(hex) && memcmp(is, hex, n) == 0;
    free(is);
    if (!same && audit_disk_replace(p->disk, p->dir_fd, AUDIT_PUBLIC_FILE, hex, strlen(hex), 0644))
        return err_set(e, "cannot write %s/" AUDIT_PUBLIC_FILE ": %s", p->dir, strerror(errno));
    return 0;
}
