/* baseline.c - the security baseline: its file, its sign-off, and the strict built-in for when one of them is not right. */
#include "common/baseline.h"
#include "common/clock.h"
#include "common/match.h"
#include "common/wire.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX       (1u << 20)
#define SIGNOFF_SUFFIX ".signoff"
#define NAME_MAX_BYTES 64
#define SETTLE_MS      2000 /* a file that changed this shortly before it was read may change again under the same time stamp */

/* ---- the file as a table ---- */

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))
#define ROW(key_, type_, member_, def_, min_, max_, help_, ...)                                                      \
    {                                                                                                                \
        .key = key_, .type = CONF_##type_, .offset = offsetof(STRUCT, member_), .def = def_, .min = min_,            \
        .max = max_, .help = help_, ##__VA_ARGS__                                                                    \
    }
#define REQUIRED NULL

static void check_parameter(void *object, struct conf_ctx *ctx);
static void check_action(void *object, struct conf_ctx *ctx);
static void check_baseline(void *object, struct conf_ctx *ctx);

static const char *const types[] = {"text", "int", "bool", "ip", "cidr", "host", "enum", NULL};
static const char *const executes[] = {"guard", "agent", NULL};

#define STRUCT struct baseline_parameter
static const struct conf_field parameter_fields[] = {
    ROW("name", STRING, name, REQUIRED, 1, NAME_MAX_BYTES, "As in the request; [a-z0-9_.-]."),
    ROW("type", ENUM, type, "text", 0, 0, "What its value must be.", .choices = types),
    ROW("required", BOOL, required, "no", 0, 0, "An action without it is refused."),
    ROW("min", INT, min, "0", 0, 0, "int: the least value; text: the least number of bytes."),
    ROW("max", INT, max, "0", 0, 0,
        "The greatest; with min and max both 0 an int may be any, and a text has 1 to 1,024 bytes."),
    ROW("pattern", STRING, pattern, "", 1, 1024,
        "PCRE2 that the whole value must match, whatever its type; empty = any."),
    ROW("values", STRINGS, values, "", 0, 256, "enum: what it may be.", .item = CONF_STRING),
};
static const struct conf_schema parameter_schema = {"parameter", sizeof(struct baseline_parameter), parameter_fields,
                                                    N_OF(parameter_fields), check_parameter};

#undef STRUCT
#define STRUCT struct baseline_action
static const struct conf_field action_fields[] = {
    ROW("name", STRING, name, REQUIRED, 1, NAME_MAX_BYTES, "As in the request; [a-z0-9_.-]."),
    ROW("postures", STRINGS, postures, REQUIRED, 1, 6,
        "In which it may be taken, or queued: normal, backup_llm, recovering, degraded, security_fallback. "
        "Frozen agents act in no case.",
        .item = CONF_TOKEN),
    ROW("execute", ENUM, execute, "guard", 0, 0,
        "Who carries it out: the guard, by a call to the backend; or the agent itself, with the guard's permission.",
        .choices = executes),
    ROW("path", STRING, path, "", 1, 512, "Of the backend; empty = the agent's own `actions.path`."),
    ROW("queue", BOOL, queue, "no", 0, 0, "It may wait for the backend; without it, it is refused meanwhile."),
    ROW("parameters", LIST, parameters, "", 0, 32, "What it takes; any other is refused.",
        .schema = &parameter_schema),
    ROW("per_minute", INT, per_minute, "0", 0, 1000000, "So many of one agent each minute; 0 = no limit of its own."),
    ROW("burst", INT, burst, "0", 0, 1000000, "So many at once; 0 = one, with per_minute."),
    ROW("expires", DURATION, expires_ms, "0s", 0, INT64_C(30) * 86400000,
        "Not replayed when older; 0 = guard.queue.max_age."),
};
static const struct conf_schema action_schema = {"action", sizeof(struct baseline_action), action_fields,
                                                 N_OF(action_fields), check_action};

#undef STRUCT
#define STRUCT struct baseline
static const struct conf_field baseline_fields[] = {
    ROW("version", STRING, version, REQUIRED, 1, 64, "Named in the sign-off and in the audit trail."),
    ROW("description", STRING, description, "", 0, 1024, "For people."),
    ROW("per_minute", INT, per_minute, "0", 0, 10000000, "Actions of one agent each minute, of all kinds; 0 = no limit."),
    ROW("burst", INT, burst, "0", 0, 10000000, "So many at once; 0 = one, with per_minute."),
    ROW("actions", LIST, actions, REQUIRED, 1, 256, "What agents may do; nothing else.", .schema = &action_schema),
};
const struct conf_schema baseline_file_schema = {"baseline", sizeof(struct baseline), baseline_fields,
                                                 N_OF(baseline_fields), check_baseline};

/* The sign-off. `signature` is over the lines that signed_text() makes. */
struct signoff {
    char *version, *sha256, *by, *at, *signature;
};
#undef STRUCT
#define STRUCT struct signoff
static const struct conf_field signoff_fields[] = {
    ROW("version", STRING, version, REQUIRED, 1, 64, "The version that was signed off."),
    ROW("sha256", STRING, sha256, REQUIRED, 64, 64, "Of the baseline's bytes, hexadecimal."),
    ROW("by", STRING, by, REQUIRED, 1, 128, "Who signed it off."),
    ROW("at", STRING, at, REQUIRED, 20, 30, "When: 2026-01-31T09:05:01Z."),
    ROW("signature", STRING, signature, "", 1, 128, "Ed25519, base64; empty = the hash alone."),
};
static const struct conf_schema signoff_schema = {"sign-off", sizeof(struct signoff), signoff_fields,
                                                  N_OF(signoff_fields), NULL};

/* ---- checks ---- */

static bool key_ok(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-");
    return n > 0 && !s[n];
}

/* The pattern over the whole value. It must be right by itself, so that it cannot close the group that is put around it. */
static struct match *compile_whole(const char *pattern, struct err *e)
{
    if (strstr(pattern, "(*")) {
        err_set(e, "found a verb, `(*`; allowed: patterns without one, as it could end a match before the value ends");
        return NULL;
    }
    struct match *alone = match_compile(pattern, MATCH_TEXT, e);
    if (!alone)
        return NULL;
    match_free(alone);
    char *whole;
    if (asprintf(&whole, "\\A(?:%s)\\z", pattern) < 0) {
        err_set(e, "out of memory");
        return NULL;
    }
    struct match *m = match_compile(whole, MATCH_TEXT, e);
    free(whole);
    return m;
}

static void check_parameter(void *object, struct conf_ctx *ctx)
{
    struct baseline_parameter *p = object;
    struct err e = {""};
    if (!key_ok(p->name))
        conf_problem(ctx, "name", "found `%s`; allowed: [a-z0-9_.-]", p->name);
    if (p->min > p->max)
        conf_problem(ctx, "min", "is greater than max");
    if (p->type == BASELINE_TEXT && (p->min < 0 || p->max > 1024))
        conf_problem(ctx, "max", "found %lld to %lld; allowed: 0 to 1024 bytes of text", (long long)p->min,
                     (long long)p->max);
    if (p->type != BASELINE_TEXT && p->type != BASELINE_INT && (p->min || p->max))
        conf_problem(ctx, "min", "min and max are for text and int");
    if ((p->type == BASELINE_ENUM) != (p->values.n > 0))
        conf_problem(ctx, "values", "values are required for an enum, and only for that");
    if (*p->pattern) {
        struct match *m = compile_whole(p->pattern, &e);
        if (!m)
            conf_problem(ctx, "pattern", "%s", e.text);
        match_free(m); /* compiled anew for good when all is right: a refused file leaves nothing behind */
    }
}

static unsigned posture_bit(const char *name)
{
    static const struct {
        const char *name;
        unsigned bit;
    } postures[] = {
        {"normal", 1u << REDOUBT__V1__POSTURE__POSTURE_NORMAL},
        {"backup_llm", 1u << REDOUBT__V1__POSTURE__POSTURE_BACKUP_LLM},
        {"recovering", 1u << REDOUBT__V1__POSTURE__POSTURE_RECOVERING},
        {"degraded", 1u << REDOUBT__V1__POSTURE__POSTURE_DEGRADED},
        {"security_fallback", 1u << REDOUBT__V1__POSTURE__POSTURE_SECURITY_FALLBACK},
    };
    for (size_t i = 0; i < N_OF(postures); i++)
        if (strcmp(name, postures[i].name) == 0)
            return postures[i].bit;
    return 0;
}

static void check_action(void *object, struct conf_ctx *ctx)
{
    struct baseline_action *a = object;
    if (!key_ok(a->name))
        conf_problem(ctx, "name", "found `%s`; allowed: [a-z0-9_.-]", a->name);
    if (*a->path && (*a->path != '/' || strpbrk(a->path, " \t\r\n?#")))
        conf_problem(ctx, "path", "found `%s`; allowed: a path that starts with /", a->path);
    if (a->burst && !a->per_minute)
        conf_problem(ctx, "burst", "is for per_minute");
    if (a->execute == BASELINE_BY_AGENT && (*a->path || a->queue))
        conf_problem(ctx, "execute", "what the agent carries out has no path, and cannot be queued");
    a->posture_bits = 0;
    for (size_t i = 0; i < a->postures.n; i++) {
        const char *name = *CONF_AT(a->postures, char *, i);
        unsigned bit = posture_bit(name);
        if (!bit)
            conf_problem(ctx, "postures",
                         "found `%s`; allowed: normal, backup_llm, recovering, degraded, security_fallback", name);
        a->posture_bits |= bit;
    }
    for (size_t i = 0; i < a->parameters.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(CONF_AT(a->parameters, struct baseline_parameter, i)->name,
                       CONF_AT(a->parameters, struct baseline_parameter, k)->name) == 0)
                conf_problem(ctx, "parameters", "`%s` occurs twice",
                             CONF_AT(a->parameters, struct baseline_parameter, i)->name);
}

static void check_baseline(void *object, struct conf_ctx *ctx)
{
    struct baseline *b = object;
    if (b->burst && !b->per_minute)
        conf_problem(ctx, "burst", "is for per_minute");
    for (size_t i = 0; i < b->actions.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(CONF_AT(b->actions, struct baseline_action, i)->name,
                       CONF_AT(b->actions, struct baseline_action, k)->name) == 0)
                conf_problem(ctx, "actions", "`%s` occurs twice", CONF_AT(b->actions, struct baseline_action, i)->name);
}

/* ---- files ---- */

/* The whole file and what it was; malloc'ed. NULL with the text in e. */
static char *read_file(const char *path, size_t *ret_len, struct baseline_stamp *ret_stamp, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;
    size_t n = 0;
    if (fd < 0 || fstat(fd, &st)) {
        err_set(e, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        err_set(e, "%s: is no file of at most %u MiB", path, FILE_MAX >> 20);
    } else if (!(text = malloc(FILE_MAX + 1))) {
        err_set(e, "out of memory");
    } else {
        ssize_t got = 1;
        while (n <= FILE_MAX && got > 0) {
            got = read(fd, text + n, FILE_MAX + 1 - n);
            if (got < 0 && errno == EINTR)
                got = 1;
            else if (got > 0)
                n += (size_t)got;
        }
        if (got < 0 || n > FILE_MAX) {
            err_set(e, "%s: cannot be read whole: %s", path, got < 0 ? strerror(errno) : "it grows");
            free(text);
            text = NULL;
        }
    }
    if (text) {
        *ret_len = n;
        *ret_stamp = (struct baseline_stamp){.changed_ns = st.st_ctim.tv_sec * INT64_C(1000000000) + st.st_ctim.tv_nsec,
                                             .written_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec,
                                             .size = st.st_size,
                                             .device = st.st_dev,
                                             .inode = st.st_ino};
    }
    if (fd >= 0)
        close(fd);
    return text;
}

static struct baseline_stamp stamp_of(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return (struct baseline_stamp){0};
    return (struct baseline_stamp){.changed_ns = st.st_ctim.tv_sec * INT64_C(1000000000) + st.st_ctim.tv_nsec,
                                   .written_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec,
                                   .size = st.st_size,
                                   .device = st.st_dev,
                                   .inode = st.st_ino};
}

static bool same_stamp(const struct baseline_stamp *a, const struct baseline_stamp *b)
{
    return a->changed_ns == b->changed_ns && a->written_ns == b->written_ns && a->size == b->size &&
           a->device == b->device && a->inode == b->inode;
}

static void add_line(struct conf_report *r, const char *text)
{
    char **more = realloc(r->lines, (r->n + 1) * sizeof *more);
    if (!more)
        return;
    r->lines = more;
    if ((more[r->n] = strdup(text)))
        r->n++;
}

/* Settings may take values from the environment and from files; what was signed off must not, however it is written. */
static bool depends_on_place(const char *text, size_t len)
{
    static const char *const dollars[] = {"${", "\\x24", "\\u0024", "\\U00000024"};
    for (size_t i = 0; i < N_OF(dollars); i++)
        if (memmem(text, len, dollars[i], strlen(dollars[i])))
            return true;
    return false;
}

struct baseline *baseline_parse(const char *name, const char *text, size_t len, struct conf_report *r)
{
    char line[ERR_TEXT_MAX];
    if (depends_on_place(text, len)) {
        snprintf(line, sizeof line, "%.300s: found ${...}: a baseline must say the same wherever it is read", name);
        add_line(r, line);
        return NULL;
    }
    struct baseline *b = conf_parse(&baseline_file_schema, name, text, len, r);
    for (size_t i = 0; b && i < b->actions.n; i++) {
        struct baseline_action *a = CONF_AT(b->actions, struct baseline_action, i);
        for (size_t k = 0; k < a->parameters.n; k++) {
            struct baseline_parameter *p = CONF_AT(a->parameters, struct baseline_parameter, k);
            struct err e;
            if (*p->pattern && !(p->match = compile_whole(p->pattern, &e))) {
                add_line(r, e.text);
                baseline_free(b);
                return NULL;
            }
        }
    }
    return b;
}

struct baseline *baseline_read(const char *path, struct conf_report *r)
{
    struct err e = {""};
    struct baseline_stamp stamp;
    size_t len;
    char *text = read_file(path, &len, &stamp, &e);
    if (!text)
        add_line(r, e.text);
    struct baseline *b = text ? baseline_parse(path, text, len, r) : NULL;
    free(text);
    return b;
}

void baseline_free(struct baseline *b)
{
    for (size_t i = 0; b && i < b->actions.n; i++) {
        struct baseline_action *a = CONF_AT(b->actions, struct baseline_action, i);
        for (size_t k = 0; k < a->parameters.n; k++)
            match_free(CONF_AT(a->parameters, struct baseline_parameter, k)->match);
    }
    conf_free(&baseline_file_schema, b);
}

/* ---- the sign-off ---- */

static void sha256_hex(const void *data, size_t len, char hex[static 65])
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, data, len);
    sodium_bin2hex(hex, 65, hash, sizeof hash);
}

/* What a signature covers; malloc'ed. The texts hold no line feeds: line_ok(). */
static char *signed_text(const struct signoff *s)
{
    char *text;
    return asprintf(&text, "redoubt-baseline-1\n%s\n%s\n%s\n%s\n", s->version, s->sha256, s->by, s->at) < 0 ? NULL
                                                                                                           : text;
}

static bool line_ok(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static int64_t parse_time(const char *text)
{
    struct tm t = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
    if (!rest)
        return -1;
    if (*rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    return strcmp(rest, "Z") == 0 ? (int64_t)timegm(&t) * 1000 : -1;
}

static int check_signature(const struct signoff *s, const char *public_key, struct err *e)
{
    unsigned char key[crypto_sign_PUBLICKEYBYTES], sig[crypto_sign_BYTES];
    size_t n;
    if (sodium_base642bin(key, sizeof key, public_key, strlen(public_key), NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) ||
        n != sizeof key)
        return err_set(e, "baseline.public_key is no Ed25519 key in base64");
    if (!*s->signature)
        return err_set(e, "it is not signed, and the settings name a key");
    if (sodium_base642bin(sig, sizeof sig, s->signature, strlen(s->signature), NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) ||
        n != sizeof sig)
        return err_set(e, "the signature is no Ed25519 signature in base64");
    char *text = signed_text(s);
    if (!text)
        return err_set(e, "out of memory");
    int bad = crypto_sign_verify_detached(sig, (const unsigned char *)text, strlen(text), key);
    free(text);
    return bad ? err_set(e, "the signature is not by the key of the settings, or for something else") : 0;
}

/* Is the sign-off for this file, by someone, at a time, and signed if it must be? */
static int check_signoff(struct baseline *b, const struct signoff *s, const char *public_key, struct err *e)
{
    int64_t at_ms = parse_time(s->at);
    if (strcmp(s->sha256, b->sha256) != 0)
        return err_set(e, "the file was changed after its sign-off: its SHA-256 is %s, signed off was %s", b->sha256,
                       s->sha256);
    if (strcmp(s->version, b->version) != 0)
        return err_set(e, "version `%s` was signed off, the file's is `%s`", s->version, b->version);
    if (!line_ok(s->by) || !line_ok(s->version))
        return err_set(e, "by or version hold control characters");
    if (at_ms < 0)
        return err_set(e, "at: found `%s`; allowed: a time as 2026-01-31T09:05:01Z", s->at);
    if (*public_key && check_signature(s, public_key, e))
        return -1;
    snprintf(b->signed_by, sizeof b->signed_by, "%s", s->by);
    b->signed_ms = at_ms;
    return 0;
}

static struct signoff *read_signoff(const char *path, struct baseline_stamp *stamp, struct err *e)
{
    struct conf_report report = {0};
    size_t len;
    char *text = read_file(path, &len, stamp, e);
    struct signoff *s = NULL;
    if (text && depends_on_place(text, len))
        err_set(e, "%s: found ${...}: a sign-off must say the same wherever it is read", path);
    else if (text && !(s = conf_parse(&signoff_schema, path, text, len, &report)))
        err_set(e, "%s", report.n ? report.lines[0] : "out of memory");
    conf_report_free(&report);
    free(text);
    return s;
}

/* The trusted baseline, or NULL with the reason. The stamps are of what was read, as far as it was. */
static struct baseline *load_trusted(const struct set_baseline *set, struct baseline_stamp stamps[static 2],
                                     struct err *e)
{
    struct conf_report report = {0};
    char path[512];
    size_t len;
    if (!*set->path)
        return err_set(e, "no baseline is named in the settings (baseline.path)"), NULL;
    snprintf(path, sizeof path, "%s" SIGNOFF_SUFFIX, set->path);
    char *text = read_file(set->path, &len, &stamps[0], e);
    if (!text)
        return NULL;
    struct baseline *b = baseline_parse(set->path, text, len, &report);
    if (!b)
        err_set(e, "%s%s", report.n ? report.lines[0] : "out of memory", report.n > 1 ? " (and more)" : "");
    conf_report_free(&report);
    struct err why = {""};
    struct signoff *s = b ? read_signoff(path, &stamps[1], e) : NULL;
    bool good = s != NULL;
    if (good) {
        sha256_hex(text, len, b->sha256);
        if (check_signoff(b, s, set->public_key, &why)) {
            err_set(e, "%.256s: %.240s", path, why.text);
            good = false;
        }
    }
    conf_free(&signoff_schema, s);
    free(text);
    if (!good) {
        baseline_free(b);
        return NULL;
    }
    return b;
}

/* The strict built-in: an empty list of actions. The texts are the schema's to free. */
static struct baseline *built_in(void)
{
    struct baseline *b = calloc(1, sizeof *b);
    if (!b || !(b->version = strdup("built-in")) || !(b->description = strdup("strict: no action is allowed")))
        abort(); /* without it nobody could say what is allowed */
    return b;
}

struct baseline *baseline_load(const struct set_baseline *set)
{
    struct err e = {""};
    struct baseline_stamp stamps[2] = {{0}, {0}};
    struct baseline *b = sodium_init() < 0 ? NULL : load_trusted(set, stamps, &e);
    if (b) {
        b->trusted = true;
    } else {
        b = built_in();
        snprintf(b->error, sizeof b->error, "%s", *e.text ? e.text : "out of memory");
    }
    b->file = stamps[0];
    b->signoff = stamps[1];
    b->loaded_ms = clock_wall_ms();
    return b;
}

static bool unsettled(const struct baseline *b, const struct baseline_stamp *was)
{
    return was->inode && was->changed_ns / 1000000 > b->loaded_ms - SETTLE_MS &&
           clock_wall_ms() > b->loaded_ms + SETTLE_MS;
}

bool baseline_stale(const struct baseline *b, const struct set_baseline *set)
{
    char path[512];
    snprintf(path, sizeof path, "%s" SIGNOFF_SUFFIX, set->path);
    struct baseline_stamp file = *set->path ? stamp_of(set->path) : (struct baseline_stamp){0};
    struct baseline_stamp signoff = *set->path ? stamp_of(path) : (struct baseline_stamp){0};
    return !same_stamp(&file, &b->file) || !same_stamp(&signoff, &b->signoff) || unsettled(b, &b->file) ||
           unsettled(b, &b->signoff);
}

const struct baseline_action *baseline_action(const struct baseline *b, const char *name)
{
    for (size_t i = 0; i < b->actions.n; i++)
        if (strcmp(CONF_AT(b->actions, struct baseline_action, i)->name, name) == 0)
            return CONF_AT(b->actions, struct baseline_action, i);
    return NULL;
}

/* ---- signing ---- */

/* Beside the file first, synced, then in its place: a reader sees the old one or the new one. */
static int replace_file(const char *path, const char *text, struct err *e)
{
    char fresh[600];
    size_t len = strlen(text);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    (void)unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_set(e, "%s: cannot be written: %s", fresh, strerror(errno));
    bool good = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    good = close(fd) == 0 && good && rename(fresh, path) == 0;
    if (good)
        return 0;
    err_set(e, "%s: cannot be written: %s", path, strerror(errno));
    (void)unlink(fresh);
    return -1;
}

/* The sign-off's text, malloc'ed; JSON strings are YAML, too, and escape what must be. */
static char *signoff_text(const struct signoff *s)
{
    json_t *by = json_string(s->by), *version = json_string(s->version);
    char *by_text = by ? json_dumps(by, JSON_ENCODE_ANY) : NULL;
    char *version_text = version ? json_dumps(version, JSON_ENCODE_ANY) : NULL;
    char *text = NULL;
    if (!by_text || !version_text ||
        asprintf(&text, "version: %s\nsha256: \"%s\"\nby: %s\nat: \"%s\"\n%s%s%s", version_text, s->sha256, by_text, s->at,
                 *s->signature ? "signature: \"" : "", s->signature, *s->signature ? "\"\n" : "") < 0)
        text = NULL;
    free(by_text);
    free(version_text);
    json_decref(by);
    json_decref(version);
    return text;
}

int baseline_sign(const char *path, const char *by, const unsigned char *key, struct err *e)
{
    struct conf_report report = {0};
    struct baseline_stamp stamp;
    char hex[65], at[CLOCK_TEXT_MAX], sig64[sodium_base64_ENCODED_LEN(crypto_sign_BYTES, sodium_base64_VARIANT_ORIGINAL)];
    char target[512];
    size_t len;
    if (sodium_init() < 0)
        return err_set(e, "no source of randomness");
    if (!*by || strlen(by) > 128 || !line_ok(by) || strstr(by, "${"))
        return err_set(e, "who signs it off: 1 to 128 bytes in one line");
    if (strlen(path) > 400)
        return err_set(e, "the path is longer than 400 bytes");
    char *text = read_file(path, &len, &stamp, e);
    if (!text)
        return -1;
    struct baseline *b = baseline_parse(path, text, len, &report);
    if (!b)
        err_set(e, "%s", report.n ? report.lines[0] : "out of memory");
    conf_report_free(&report);
    sha256_hex(text, len, hex);
    free(text);
    if (!b)
        return -1;
    struct signoff s = {.version = b->version, .sha256 = hex, .by = (char *)by, .at = at, .signature = (char *)""};
    clock_text(clock_wall_ms(), at);
    int result = line_ok(b->version) ? 0 : err_set(e, "version holds control characters");
    char *covered = key && result == 0 ? signed_text(&s) : NULL;
    if (covered) {
        unsigned char sig[crypto_sign_BYTES];
        crypto_sign_detached(sig, NULL, (const unsigned char *)covered, strlen(covered), key);
        s.signature = sodium_bin2base64(sig64, sizeof sig64, sig, sizeof sig, sodium_base64_VARIANT_ORIGINAL);
        free(covered);
    }
    char *out = result == 0 ? signoff_text(&s) : NULL;
    snprintf(target, sizeof target, "%s" SIGNOFF_SUFFIX, path);
    if (result == 0)
        result = out ? replace_file(target, out, e) : err_set(e, "out of memory");
    free(out);
    baseline_free(b);
    return result;
}
