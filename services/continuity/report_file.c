/* report_file.c - writes a report's files; beside them `.NAME.state` holds the hashes of what was written, so that what people change is seen.
 *
 * Lessons and follow-ups differ from the form: they are kept, this time and every time after. Anything else differs: the whole file is put aside first. */
#include "continuity/report_file.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MD_MAX  (16 * 1024 * 1024)
#define PATH    1024
#define HEX     (2 * crypto_hash_sha256_BYTES + 1)
#define ASIDES  100
#define OF(dir) (int)(PATH - 300), dir

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

int report_file_write(const char *dir, const char *name, const char *ending, const char *text, size_t len,
                      struct err *e)
{
    char tmp[PATH], path[PATH];
    snprintf(path, sizeof path, "%.*s/%.128s%.32s", OF(dir), name, ending);
    snprintf(tmp, sizeof tmp, "%.*s/.%.128s%.32s.new", OF(dir), name, ending);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return err_set(e, "cannot write %s: %s", tmp, strerror(errno));
    int bad = write_all(fd, text, len) || fsync(fd);
    int why = errno;
    if (close(fd) && !bad) {
        bad = 1;
        why = errno;
    }
    if (!bad && rename(tmp, path)) {
        bad = 1;
        why = errno;
    }
    if (bad) {
        unlink(tmp);
        return err_set(e, "cannot write %s: %s", path, strerror(why));
    }
    sync_dir(dir);
    return 0;
}

int report_file_dir(const char *dir, struct err *e)
{
    char path[PATH];
    snprintf(path, sizeof path, "%.*s", OF(dir));
    for (char *at = path + 1;; at++) {
        if (*at && *at != '/')
            continue;
        char was = *at;
        *at = 0;
        if (mkdir(path, 0750) && errno != EEXIST)
            return err_set(e, "cannot create %s: %s", path, strerror(errno));
        *at = was;
        if (!was)
            return 0;
    }
}

/* NULL: not there, or not readable (then e says so). */
static char *read_whole(const char *dir, const char *name, const char *ending, struct err *e)
{
    char path[PATH];
    snprintf(path, sizeof path, "%.*s/%.128s%.32s", OF(dir), name, ending);
    FILE *f = fopen(path, "rbe");
    if (!f) {
        if (errno != ENOENT)
            err_set(e, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    struct stat st;
    char *text = fstat(fileno(f), &st) == 0 && st.st_size <= MD_MAX ? malloc((size_t)st.st_size + 1) : NULL;
    if (text) {
        size_t n = fread(text, 1, (size_t)st.st_size, f);
        text[n] = 0;
    } else
        err_set(e, "cannot read %s: it is too large", path);
    fclose(f);
    return text;
}

/* ---- what people have changed ---- */

static void hash(const char *text, size_t len, char ret[static HEX])
{
    unsigned char h[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(h, (const unsigned char *)text, len);
    sodium_bin2hex(ret, HEX, h, sizeof h);
}

struct part {
    const char *begin, *end, *form;
    char *text; /* what stands there; NULL = the lines around it are not there */
    bool differs;
};

/* What stands between the two lines, cut out of the text (which is then what stands around). */
static char *cut_out(char *text, const char *begin, const char *end)
{
    char *from = strstr(text, begin);
    char *to = from ? strstr(from + strlen(begin), end) : NULL;
    if (!to)
        return NULL;
    from += strlen(begin);
    from += *from == '\r';
    from += *from == '\n';
    if (from > to)
        from = to;
    char *kept = strndup(from, (size_t)(to - from));
    if (kept)
        memmove(from, to, strlen(to) + 1);
    return kept;
}

static bool same_form(const char *a, const char *b)
{
    for (;; a++, b++) {
        while (*a == '\r')
            a++;
        if (*a != *b)
            return false;
        if (!*a)
            return true;
    }
}

/* A person's whole version, where nothing is written over. */
static int put_aside(struct report_files *f, const char *whole, struct err *e)
{
    char path[PATH], ending[32];
    for (int i = 1; i <= ASIDES; i++) {
        snprintf(ending, sizeof ending, ".edited-%d.md", i);
        snprintf(path, sizeof path, "%.*s/%.128s%s", OF(f->dir), f->name, ending);
        if (access(path, F_OK) == 0)
            continue;
        if (report_file_write(f->dir, f->name, ending, whole, strlen(whole), e))
            return -1;
        snprintf(f->aside, sizeof f->aside, "%.128s%s", f->name, ending);
        return 0;
    }
    return err_set(e, "%s.md was edited, and there are %d older versions beside it: take some away", f->name, ASIDES);
}

static void state_name(const struct report_files *f, char buf[static 160])
{
    snprintf(buf, 160, ".%.128s", f->name);
}

/* The parts that people have filled in. The state holds the hash of what stood around them. */
static int look(struct report_files *f, struct part *parts, struct err *e)
{
    char name[160], is[HEX], *state;
    struct err why = {""};
    char *text = read_whole(f->dir, f->name, ".md", &why);
    if (!text)
        return *why.text ? err_set(e, "%s", why.text) : 0;
    char *whole = strdup(text);
    state_name(f, name);
    state = read_whole(f->dir, name, ".state", NULL);
    for (int i = 0; i < 2; i++) {
        parts[i].text = cut_out(text, parts[i].begin, parts[i].end);
        parts[i].differs = parts[i].text && !same_form(parts[i].text, parts[i].form);
        f->kept = f->kept || parts[i].differs;
    }
    hash(text, strlen(text), is);
    /* Without the state nobody knows who wrote what: it is taken for a person's. */
    bool changed = !state || strncmp(state, is, HEX - 1) != 0;
    int rc = !whole ? err_set(e, "out of memory") : changed ? put_aside(f, whole, e) : 0;
    free(text);
    free(whole);
    free(state);
    return rc;
}

static int write_state(const struct report_files *f, const struct report_text *md, struct err *e)
{
    char name[160], is[HEX], line[HEX + 1], *text = strdup(md->s), *part;
    if (!text)
        return err_set(e, "out of memory");
    part = cut_out(text, REPORT_LESSONS_BEGIN, REPORT_LESSONS_END);
    free(part);
    part = cut_out(text, REPORT_FOLLOW_UPS_BEGIN, REPORT_FOLLOW_UPS_END);
    free(part);
    hash(text, strlen(text), is);
    free(text);
    snprintf(line, sizeof line, "%s\n", is);
    state_name(f, name);
    return report_file_write(f->dir, name, ".state", line, strlen(line), e);
}

int report_files_write(struct report_files *f, const struct report *r, struct err *e)
{
    struct part parts[2] = {
        {.begin = REPORT_LESSONS_BEGIN, .end = REPORT_LESSONS_END, .form = report_lessons_form},
        {.begin = REPORT_FOLLOW_UPS_BEGIN, .end = REPORT_FOLLOW_UPS_END, .form = report_follow_ups_form}};
    struct report_text md = {0}, html = {0}, proofs = {0};
    f->kept = false;
    *f->aside = 0;
    int rc = report_file_dir(f->dir, e);
    if (!rc)
        rc = look(f, parts, e);
    if (!rc) {
        struct report_kept kept = {parts[0].differs ? parts[0].text : NULL, parts[1].differs ? parts[1].text : NULL};
        report_md_write(r, &kept, &md);
        report_html_write(r, &kept, &html);
        report_proofs_write(r, &proofs);
        if (md.failed || html.failed || proofs.failed)
            rc = err_set(e, "out of memory");
    }
    /* The state last: a crash before it makes the next writer take the file for edited, which loses nothing. */
    if (!rc)
        rc = report_file_write(f->dir, f->name, ".proofs.json", proofs.s, proofs.n, e) ||
             report_file_write(f->dir, f->name, ".html", html.s, html.n, e) ||
             report_file_write(f->dir, f->name, ".md", md.s, md.n, e) || write_state(f, &md, e);
    free(md.s);
    free(html.s);
    free(proofs.s);
    free(parts[0].text);
    free(parts[1].text);
    return rc ? -1 : 0;
}
