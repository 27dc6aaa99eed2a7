/* config_file.c - the settings file itself: read, judged, shown without secrets, replaced. */
#include "continuity/config_file.h"
#include "alert/alert_template.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void config_stamp(const char *path, struct config_stamp *ret)
{
    struct stat st;
    *ret = (struct config_stamp){0};
    if (stat(path, &st))
        return;
    *ret = (struct config_stamp){.changed_ns = st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec,
                                 .written_ns = st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                                 .size = st.st_size,
                                 .device = st.st_dev,
                                 .inode = st.st_ino};
}

bool config_stamp_same(const struct config_stamp *a, const struct config_stamp *b)
{
    return a->changed_ns == b->changed_ns && a->written_ns == b->written_ns && a->size == b->size &&
           a->device == b->device && a->inode == b->inode;
}

/* ---- reading ---- */

static int read_all(int fd, struct config_text *ret)
{
    struct stat st;
    if (fstat(fd, &st))
        return -1;
    if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_FILE_MAX) {
        errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
        return -1;
    }
    size_t room = (size_t)st.st_size, n = 0;
    char *text = malloc(room + 1);
    while (text && n < room) {
        ssize_t got = read(fd, text + n, room - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int why = errno;
            free(text);
            errno = why;
            return -1;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    if (!text)
        return -1;
    text[n] = '\0';
    *ret = (struct config_text){.text = text, .len = n};
    sha256_text(text, n, ret->sha256);
    return 0;
}

int config_text_read(const char *path, struct config_text *ret, struct err *e)
{
    *ret = (struct config_text){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int bad = fd < 0 ? -1 : read_all(fd, ret);
    if (bad && errno == EFBIG)
        (void)err_set(e, "%s is larger than %u MiB: that is no settings file", path, CONFIG_FILE_MAX >> 20);
    else if (bad)
        (void)err_set(e, "%s cannot be read: %s", path, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return bad;
}

void config_text_free(struct config_text *t)
{
    free(t->text);
    *t = (struct config_text){0};
}

struct settings *config_judge(const char *name, const char *text, size_t len, struct conf_report *r)
{
    struct settings *s = conf_parse(&settings_schema, name, text, len, r);
    if (s && !alert_template_check(s, r)) {
        settings_free(s);
        return NULL;
    }
    return s;
}

static void put_line(void *ctx, const char *line)
{
    fprintf(ctx, "%s\n", line);
}

char *config_shown(const struct settings *s)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    conf_show(&settings_schema, s, false, put_line, f);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

const char *config_lines(const struct conf_report *r, char *buf, size_t size)
{
    size_t n = 0;
    *buf = '\0';
    for (size_t i = 0; i < r->n && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%s", i ? "; " : "", r->lines[i]);
    return buf;
}

const char *config_owner(const char *path, char *buf, size_t size)
{
    struct stat st;
    struct passwd entry, *found = NULL;
    char room[2048];
    if (stat(path, &st))
        snprintf(buf, size, "nobody");
    else if (getpwuid_r(st.st_uid, &entry, room, sizeof room, &found) == 0 && found)
        snprintf(buf, size, "%s", entry.pw_name);
    else
        snprintf(buf, size, "%u", (unsigned)st.st_uid);
    return buf;
}

/* ---- replacing ---- */

static int write_all(int fd, const char *text, size_t len)
{
    for (size_t n = 0; n < len;) {
        ssize_t put = write(fd, text + n, len - n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        n += (size_t)put;
    }
    return 0;
}

static void folder_of(const char *path, char *buf, size_t size)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(buf, size, ".");
    else
        snprintf(buf, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* A name in a directory is durable when the directory is. */
static int sync_folder(const char *path)
{
    char dir[1024];
    folder_of(path, dir, sizeof dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd);
    if (fd >= 0)
        (void)close(fd);
    return bad ? -1 : 0;
}

/* A new file beside path, with the rights of the one that it replaces. 0 or -1 (errno). */
static int beside(const char *path, const char *as, const struct stat *like, const char *text, size_t len)
{
    int fd = open(as, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    int bad = write_all(fd, text, len);
    if (!bad && like) {
        /* Its owner, if we may; its rights in any case. A file that services could not read any more would be worse than the old one. */
        if (fchown(fd, like->st_uid, like->st_gid) && (like->st_uid != geteuid() || like->st_gid != getegid()))
            bad = -1;
        else
            bad = fchmod(fd, like->st_mode & 07777);
    }
    bad = bad || fsync(fd);
    int why = errno;
    (void)close(fd);
    if (bad || rename(as, path)) {
        why = bad ? why : errno;
        (void)unlink(as);
        errno = why;
        return -1;
    }
    return sync_folder(path);
}

static int over(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    int bad = write_all(fd, text, len) || ftruncate(fd, (off_t)len) || fsync(fd);
    int why = errno;
    (void)close(fd);
    errno = why;
    return bad ? -1 : 0;
}

int config_replace(const char *path, const char *text, size_t len, void (*in_place)(void *ctx), void *ctx,
                   struct err *e)
{
    char real[1024], as[1100];
    struct stat st;
    char *whole = realpath(path, NULL); /* a link stays one: what it points to is replaced */
    snprintf(real, sizeof real, "%s", whole ? whole : path);
    free(whole);
    bool there = stat(real, &st) == 0;
    snprintf(as, sizeof as, "%s.new", real);
    if (beside(real, as, there ? &st : NULL, text, len) == 0)
        return 0;
    int why = errno;
    if (!there || why == ENOSPC || why == EIO || why == EDQUOT)
        return err_set(e, "%s cannot be written: %s", path, strerror(why));
    in_place(ctx);
    if (over(real, text, len) == 0)
        return 0;
    return err_set(e, "%s cannot be written: %s beside it, %s in place; this service needs the right to write it",
                   path, strerror(why), strerror(errno));
}
