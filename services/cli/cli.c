/* cli.c - finds the row of a command, reads its options into its struct, writes its help, runs it. */
#include "cli/cli.h"
#include "common/conf.h"
#include "common/log.h"
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONFIG  "/etc/redoubt/redoubt.yaml"
#define DEFAULT_TIMEOUT 3000
#define PATH_MAX_LEN    64
#define HELP_COLUMN     26

struct table {
    const struct cli_row *rows;
    size_t n;
};

static const struct cli_opt connect_opts[] = {
    {"config", 'c', CLI_TEXT, "FILE", offsetof(struct cli, config_path), 0, 0,
     "settings: where the bus is and how to log in\n(default: $REDOUBT_CONFIG, then " DEFAULT_CONFIG ")"},
    {"nats", 0, CLI_TEXT, "URL", offsetof(struct cli, nats_url), 0, 0,
     "the bus, instead of settings (default: $REDOUBT_NATS)"},
    {"timeout", 0, CLI_DURATION, "TIME", offsetof(struct cli, timeout_ms), 1, 600000,
     "for connecting, and for each answer (default: 3s)"},
};
#define CONNECT_OPTS (sizeof connect_opts / sizeof connect_opts[0])

static const struct {
    enum cli_exit code;
    const char *text;
} exits[] = {{CLI_OK, "ok"},
             {CLI_FAILED, "failed, or not healthy"},
             {CLI_USAGE, "wrong usage or settings"},
             {CLI_UNREACHABLE, "suite unreachable"},
             {CLI_REFUSED, "refused by the suite"}};

/* ---- small things that commands share ---- */

int cli_fail(const struct cli *c, int code, const char *fmt, ...)
{
    char text[1024], clean[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, "redoubt%s%s: %s\n", *c->row->path ? " " : "", c->row->path,
            term_clean(text, 0, clean, sizeof clean));
    return code;
}

const char *cli_config_path(const struct cli *c)
{
    if (c->config_path)
        return c->config_path;
    const char *env = getenv("REDOUBT_CONFIG");
    return env && *env ? env : DEFAULT_CONFIG;
}

struct one_duration {
    int64_t ms;
};

int64_t cli_duration(const char *name, const char *value, int64_t min_ms, int64_t max_ms, char *why, size_t size)
{
    /* Read by the settings' own reader, so that both take the same notation and say the same about a wrong one. */
    const struct conf_field field = {.key = name, .type = CONF_DURATION, .min = min_ms, .max = max_ms, .help = ""};
    const struct conf_schema schema = {.name = name, .size = sizeof(struct one_duration), .fields = &field, .n = 1};
    char yaml[128];
    if (strpbrk(value, "\n\r\t:#{}[]'\"&*!|>%@,") || strlen(value) > 32) {
        snprintf(why, size, "--%s: `%s` is not a duration; write it like 250ms, 30s, 10m or 4h", name, value);
        return -1;
    }
    snprintf(yaml, sizeof yaml, "%s: %s\n", name, value);
    struct conf_report report = {0};
    struct one_duration *d = conf_parse(&schema, "option", yaml, strlen(yaml), &report);
    int64_t ms = d ? d->ms : -1;
    if (!d)
        snprintf(why, size, "%s", report.n ? report.lines[0] : "not a duration");
    conf_free(&schema, d);
    conf_report_free(&report);
    return ms;
}

const char *cli_span(int64_t ms, char *buf, size_t size)
{
    static const struct {
        int64_t below, unit, minor;
        const char *name, *minor_name;
    } steps[] = {
        {3600000, 60000, 1000, "min", "s"}, {86400000, 3600000, 60000, "h", "min"}, {0, 86400000, 3600000, "d", "h"}};
    if (ms < 0)
        ms = 0;
    if (ms < 1000) {
        snprintf(buf, size, "%d ms", (int)ms);
    } else if (ms < 60000) {
        snprintf(buf, size, "%d.%d s", (int)(ms / 1000), (int)(ms % 1000 / 100));
    } else {
        size_t i = 0;
        while (i + 1 < sizeof steps / sizeof steps[0] && ms >= steps[i].below)
            i++;
        int64_t major = ms / steps[i].unit, minor = ms % steps[i].unit / steps[i].minor;
        if (minor)
            snprintf(buf, size, "%" PRId64 " %s %" PRId64 " %s", major, steps[i].name, minor, steps[i].minor_name);
        else
            snprintf(buf, size, "%" PRId64 " %s", major, steps[i].name);
    }
    return buf;
}

/* ---- rows ---- */

/* The last word of a path. */
static const char *last_word(const char *path)
{
    const char *space = strrchr(path, ' ');
    return space ? space + 1 : path;
}

static bool is_below(const char *path, const char *group)
{
    size_t n = strlen(group);
    return n == 0 ? !strchr(path, ' ') : strncmp(path, group, n) == 0 && path[n] == ' ' && !strchr(path + n + 1, ' ');
}

/* The row whose words begin words[0..n), the longest one; *ret_used = its number of words. */
static const struct cli_row *find_row(const struct table *t, int n, char **words, int *ret_used)
{
    const struct cli_row *best = NULL;
    char path[PATH_MAX_LEN] = "";
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        int m = snprintf(path + len, sizeof path - len, "%s%s", i ? " " : "", words[i]);
        if (m < 0 || (size_t)m >= sizeof path - len)
            break;
        len += (size_t)m;
        for (size_t r = 0; r < t->n; r++) {
            if (strcmp(t->rows[r].path, path) == 0) {
                best = &t->rows[r];
                *ret_used = i + 1;
            }
        }
        if (!best)
            break;
    }
    return best;
}

/* ---- help ---- */

/* `left`, then `right` in its column; further lines of right below it. */
static void help_line(FILE *f, const char *left, const char *right)
{
    size_t width = term_width(left);
    fprintf(f, "  %s", left);
    if (width + 2 > HELP_COLUMN - 2) {
        fputc('\n', f);
        width = 0;
        fputs("  ", f);
    }
    for (bool first = true; *right; first = false) {
        size_t n = strcspn(right, "\n");
        fprintf(f, "%*s%.*s\n", (int)(first ? HELP_COLUMN - width : HELP_COLUMN + 2), "", (int)n, right);
        right += n + (right[n] == '\n');
    }
}

static void help_opts(FILE *f, const struct cli_opt *opts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char left[64], letter[8] = "    ";
        if (opts[i].letter)
            snprintf(letter, sizeof letter, "-%c, ", opts[i].letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, opts[i].name, opts[i].arg ? " " : "",
                 opts[i].arg ? opts[i].arg : "");
        help_line(f, left, opts[i].help);
    }
}

static void help_exits(FILE *f)
{
    fputs("exit codes:", f);
    for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++)
        fprintf(f, "%s %d %s", i ? "," : "", (int)exits[i].code, exits[i].text);
    fputs(".\n", f);
}

/* "breaker" -> "breaker show|open|close": what is below a group. */
static void group_words(const struct table *t, const struct cli_row *g, char *buf, size_t size)
{
    size_t len = (size_t)snprintf(buf, size, "%s", last_word(g->path));
    bool first = true;
    for (size_t i = 0; i < t->n && len < size; i++) {
        if (is_below(t->rows[i].path, g->path)) {
            len += (size_t)snprintf(buf + len, size - len, "%c%s", first ? ' ' : '|', last_word(t->rows[i].path));
            first = false;
        }
    }
}

static bool has_children(const struct table *t, const char *group)
{
    for (size_t i = 0; *group && i < t->n; i++)
        if (is_below(t->rows[i].path, group))
            return true;
    return false;
}

static void help_children(const struct table *t, FILE *f, const char *group)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct cli_row *r = &t->rows[i];
        if (!is_below(r->path, group))
            continue;
        char left[160];
        if ((r->run || r->raw) && !has_children(t, r->path))
            snprintf(left, sizeof left, "%s%s%s", last_word(r->path), r->args ? " " : "", r->args ? r->args : "");
        else
            group_words(t, r, left, sizeof left);
        help_line(f, left, r->summary);
    }
}

static void help_row(const struct table *t, const struct cli_row *r, FILE *f)
{
    if (r->raw) { /* reads its options by itself, so it writes its help by itself */
        char name[PATH_MAX_LEN], help[] = "--help";
        snprintf(name, sizeof name, "%s", last_word(r->path));
        char *argv[] = {name, help, NULL};
        fflush(f);
        (void)r->raw(2, argv);
        return;
    }
    fprintf(f, "redoubt %s - %s\n\n", r->path, r->summary);
    if (!r->run) {
        fprintf(f, "usage: redoubt %s COMMAND\n", r->path);
        help_children(t, f, r->path);
    } else {
        fprintf(f, "usage: redoubt %s%s%s%s\n", r->path, r->args ? " " : "", r->args ? r->args : "", " [OPTIONS]");
        if (has_children(t, r->path)) {
            fprintf(f, "       redoubt %s COMMAND\n", r->path);
            help_children(t, f, r->path);
            fputc('\n', f);
        }
        help_opts(f, r->opts, r->n_opts);
        if (r->connects)
            help_opts(f, connect_opts, CONNECT_OPTS);
        help_line(f, "-h, --help", "this text");
    }
    if (r->text)
        fprintf(f, "\n%s\n", r->text);
    fputc('\n', f);
    help_exits(f);
}

static void help_all(const struct table *t, FILE *f)
{
    fputs("redoubt " REDOUBT_VERSION " - disaster recovery and failover for AI agents: the operator's command\n\n"
          "usage: redoubt COMMAND [OPTIONS]\n",
          f);
    help_children(t, f, "");
    fputs("  help [COMMAND]            this text, or a command's own\n"
          "  --version                 the version\n\n"
          "Commands that talk to the suite find the bus by --nats URL, $REDOUBT_NATS or a settings file (-c FILE).\n"
          "Colour is used on a terminal only, and not if NO_COLOR is set.\n",
          f);
    help_exits(f);
}

/* ---- options ---- */

struct parse {
    struct option longs[2 * CLI_OPTS_MAX + 2];
    char shorts[4 * CLI_OPTS_MAX + 4];
    const struct cli_opt *row[2 * CLI_OPTS_MAX];
    void *base[2 * CLI_OPTS_MAX];
    size_t n;
};

enum { VALUE_BASE = 256 }; /* getopt's values of rows: beyond every letter */

static void parse_add(struct parse *p, const struct cli_opt *opts, size_t n, void *base)
{
    assert(n <= CLI_OPTS_MAX);
    for (size_t i = 0; i < n; i++) {
        p->longs[p->n] = (struct option){.name = opts[i].name,
                                         .has_arg = opts[i].kind == CLI_FLAG ? no_argument : required_argument,
                                         .val = VALUE_BASE + (int)p->n};
        if (opts[i].letter) {
            size_t len = strlen(p->shorts);
            p->shorts[len] = opts[i].letter;
            if (opts[i].kind != CLI_FLAG)
                p->shorts[len + 1] = ':';
        }
        p->row[p->n] = &opts[i];
        p->base[p->n++] = base;
    }
}

static int store_value(const struct cli *c, const struct cli_opt *o, void *base, const char *value)
{
    void *at = (char *)base + o->offset;
    char why[512];
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)at = true;
        return 0;
    case CLI_TEXT:
        *(const char **)at = value;
        return 0;
    case CLI_INT: {
        char *end;
        errno = 0;
        long long v = strtoll(value, &end, 10);
        if (errno || end == value || *end || v < o->min || v > o->max)
            return cli_fail(c, -1, "--%s: found `%s`; allowed: a number from %" PRId64 " to %" PRId64, o->name, value,
                            o->min, o->max);
        *(int64_t *)at = v;
        return 0;
    }
    case CLI_DURATION: {
        int64_t ms = cli_duration(o->name, value, o->min, o->max, why, sizeof why);
        if (ms < 0)
            return cli_fail(c, -1, "%s", why);
        *(int64_t *)at = ms;
        return 0;
    }
    }
    return -1;
}

/* Stores what getopt_long() found as `v`. */
static int parse_take(const struct cli *c, const struct parse *p, int v)
{
    size_t i = v >= VALUE_BASE ? (size_t)(v - VALUE_BASE) : 0;
    while (v < VALUE_BASE && p->row[i]->letter != v)
        i++;
    return store_value(c, p->row[i], p->base[i], optarg);
}

static int usage_hint(const struct cli_row *r)
{
    fprintf(stderr, "try: redoubt help%s%s\n", *r->path ? " " : "", r->path);
    return CLI_USAGE;
}

/* `lead` holds what was given before the command: redoubt --nats URL status. */
static int run_row(const struct table *t, const struct cli_row *r, const struct cli *lead, int argc, char **argv)
{
    struct cli c = *lead;
    c.row = r;
    term_init(&c.out, stdout);
    char name[PATH_MAX_LEN + 16];
    snprintf(name, sizeof name, "redoubt %s", r->path);
    argv[0] = name; /* what getopt's own messages begin with */
    if (r->raw)
        return r->raw(argc, argv);
    struct parse p = {.shorts = "h"};
    void *opts = calloc(1, r->opts_size + 1);
    if (!opts)
        return cli_fail(&c, CLI_FAILED, "out of memory");
    if (r->defaults)
        memcpy(opts, r->defaults, r->opts_size);
    parse_add(&p, r->opts, r->n_opts, opts);
    if (r->connects)
        parse_add(&p, connect_opts, CONNECT_OPTS, &c);
    p.longs[p.n] = (struct option){.name = "help", .val = 'h'};
    int code = -1;
    optind = 0;
    for (int v; code < 0 && (v = getopt_long(argc, argv, p.shorts, p.longs, NULL)) != -1;) {
        if (v == 'h') {
            help_row(t, r, stdout);
            code = CLI_OK;
        } else if (v == '?' || parse_take(&c, &p, v)) {
            code = usage_hint(r);
        }
    }
    int n_args = argc - optind;
    if (code < 0 && !r->run) {
        if (n_args > 0)
            fprintf(stderr, "redoubt %s: no command `%s`\n", r->path, argv[optind]);
        help_row(t, r, stderr);
        code = CLI_USAGE;
    }
    if (code < 0 && (n_args < r->min_args || n_args > r->max_args)) {
        if (n_args < r->min_args)
            cli_fail(&c, 0, "something is missing: %s", r->args);
        else if (r->max_args == 0 && has_children(t, r->path))
            cli_fail(&c, 0, "no command `%s`", argv[optind]);
        else
            cli_fail(&c, 0, "unexpected argument `%s`", argv[optind + r->max_args]);
        code = usage_hint(r);
    }
    c.answer_ms = c.timeout_ms ? c.timeout_ms : r->answer_ms ? r->answer_ms : DEFAULT_TIMEOUT;
    c.timeout_ms = c.timeout_ms ? c.timeout_ms : DEFAULT_TIMEOUT;
    if (code < 0)
        code = r->run(&c, opts, n_args, argv + optind);
    free(opts);
    /* A full disk or a closed pipe must not look like success. */
    if (fflush(stdout) && code == CLI_OK)
        code = CLI_FAILED;
    return code;
}

static int help_for(const struct table *t, int n, char **words)
{
    int used = 0;
    if (n == 0) {
        help_all(t, stdout);
        return CLI_OK;
    }
    const struct cli_row *r = find_row(t, n, words, &used);
    if (!r || used < n) {
        fprintf(stderr, "redoubt help: no command `%s`; `redoubt help` lists them\n", words[r ? used : 0]);
        return CLI_USAGE;
    }
    help_row(t, r, stdout);
    return CLI_OK;
}

int cli_main(const struct cli_row *rows, size_t n, int argc, char **argv)
{
    const struct table t = {rows, n};
    /* Widths need a UTF-8 locale even where the environment says "C". */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    log_init("redoubt", LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT);
    static const struct cli_row top = {.path = ""};
    struct cli lead = {.row = &top};
    struct parse p = {.shorts = "+h"}; /* up to the command's name */
    parse_add(&p, connect_opts, CONNECT_OPTS, &lead);
    p.longs[p.n] = (struct option){.name = "help", .val = 'h'};
    p.longs[p.n + 1] = (struct option){.name = "version", .val = 'V'};
    optind = 0;
    for (int v; (v = getopt_long(argc, argv, p.shorts, p.longs, NULL)) != -1;) {
        if (v == 'h')
            return help_for(&t, 0, NULL);
        if (v == 'V') {
            puts("redoubt " REDOUBT_VERSION);
            return CLI_OK;
        }
        if (v == '?' || parse_take(&lead, &p, v))
            return usage_hint(&top);
    }
    argc -= optind - 1; /* argv[0] stays in front */
    argv += optind - 1;
    if (argc < 2) {
        help_all(&t, stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "help") == 0)
        return help_for(&t, argc - 2, argv + 2);
    int used = 0;
    const struct cli_row *r = find_row(&t, argc - 1, argv + 1, &used);
    if (!r) {
        fprintf(stderr, "redoubt: no command `%s`; `redoubt help` lists them\n", argv[1]);
        return CLI_USAGE;
    }
    return run_row(&t, r, &lead, argc - used, argv + used);
}
