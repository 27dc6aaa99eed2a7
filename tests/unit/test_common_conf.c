/* test_common_conf.c - YAML by a table: units, substitution, every kind of mistake with its line, showing, reloading. */
#include "common/conf.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct part {
    char *name;
    int64_t size;
};
struct thing {
    char *text, *secret, *token, *target, *url;
    bool flag;
    int64_t count, wait_ms, bytes, share;
    int colour;
    struct part part;
    struct conf_list parts, words;
    char *must;
};

static const char *const colours[] = {"red", "green", "blue", NULL};
static const char *const schemes[] = {"http", "nats", NULL};

static const struct conf_field part_fields[] = {
    {.key = "name", .type = CONF_TOKEN, .offset = offsetof(struct part, name), .def = "", .help = "Its name."},
    {.key = "size",
     .type = CONF_SIZE,
     .offset = offsetof(struct part, size),
     .def = "1KiB",
     .min = 1,
     .max = 1 << 30,
     .help = "Its size."},
};
static void check_part(void *object, struct conf_ctx *ctx)
{
    struct part *p = object;
    if (p->size == 13)
        conf_problem(ctx, "size", "13 brings bad luck");
}
static const struct conf_schema part_schema = {"part", sizeof(struct part), part_fields, 2, check_part};

#define F(key_, type_, member_, def_)                                                                                \
    .key = key_, .type = type_, .offset = offsetof(struct thing, member_), .def = def_
static const struct conf_field thing_fields[] = {
    {F("text", CONF_STRING, text, "hello"), .min = 2, .max = 10, .help = "Any text."},
    {F("secret", CONF_SECRET, secret, ""), .help = "A secret.", .reload = true},
    {F("token", CONF_TOKEN, token, ""), .help = "A token."},
    {F("target", CONF_TARGET, target, "a.b"), .help = "A target."},
    {F("url", CONF_URL, url, "http://localhost/"), .choices = schemes, .help = "A URL."},
    {F("flag", CONF_BOOL, flag, "no"), .help = "A flag.", .reload = true},
    {F("count", CONF_INT, count, "3"), .min = -5, .max = 100, .help = "A number."},
    {F("wait", CONF_DURATION, wait_ms, "30s"), .min = 1, .max = 3600000, .help = "A duration."},
    {F("bytes", CONF_SIZE, bytes, "64KiB"), .help = "A size."},
    {F("share", CONF_PERCENT, share, "50%"), .help = "A share."},
    {F("colour", CONF_ENUM, colour, "green"), .choices = colours, .help = "A colour."},
    {F("part", CONF_OBJECT, part, ""), .schema = &part_schema, .help = "One part."},
    {F("parts", CONF_LIST, parts, ""), .schema = &part_schema, .max = 5, .help = "Parts.", .reload = true},
    {F("words", CONF_STRINGS, words, ""), .item = CONF_TOKEN, .max = 3, .help = "Words."},
    {F("must", CONF_STRING, must, NULL), .min = 1, .help = "Needed."},
};
static void check_thing(void *object, struct conf_ctx *ctx)
{
    struct thing *t = object;
    for (size_t i = 0; i < t->parts.n; i++)
        if (CONF_AT(t->parts, struct part, i)->size == 7)
            conf_problem(ctx, i == 0 ? "parts[0].size" : "parts[1].size", "7 is taken");
}
static const struct conf_schema schema = {"thing", sizeof(struct thing), thing_fields,
                                          sizeof thing_fields / sizeof thing_fields[0], check_thing};

static struct thing *parse(const char *text)
{
    struct conf_report r = {0};
    struct thing *t = conf_parse(&schema, "t.yaml", text, strlen(text), &r);
    for (size_t i = 0; i < r.n; i++)
        print_message("%s\n", r.lines[i]);
    assert_non_null(t);
    assert_int_equal(r.n, 0);
    conf_report_free(&r);
    return t;
}

/* The text is refused with exactly these lines (by their beginnings). */
static void wrong_n(const char *text, size_t len, const char *const *lines, size_t n)
{
    struct conf_report r = {0};
    assert_null(conf_parse(&schema, "t.yaml", text, len, &r));
    bool same = r.n == n;
    for (size_t i = 0; same && i < n; i++)
        same = strncmp(r.lines[i], lines[i], strlen(lines[i])) == 0;
    if (!same)
        for (size_t i = 0; i < r.n || i < n; i++)
            print_message("got:      %s\nexpected: %s\n", i < r.n ? r.lines[i] : "-", i < n ? lines[i] : "-");
    assert_true(same);
    conf_report_free(&r);
}
#define WRONG(text, ...)                                                                                             \
    wrong_n(text, strlen(text), (const char *const[]){__VA_ARGS__},                                                  \
            sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

static void defaults_and_values_are_read(void **state)
{
    (void)state;
    struct thing *t = parse("must: x");
    assert_string_equal(t->text, "hello");
    assert_string_equal(t->secret, "");
    assert_string_equal(t->target, "a.b");
    assert_false(t->flag);
    assert_int_equal(t->count, 3);
    assert_int_equal(t->wait_ms, 30000);
    assert_int_equal(t->bytes, 65536);
    assert_int_equal(t->share, 50);
    assert_int_equal(t->colour, 1);
    assert_string_equal(t->part.name, "");
    assert_int_equal(t->part.size, 1024);
    assert_int_equal(t->parts.n, 0);
    assert_int_equal(t->words.n, 0);
    conf_free(&schema, t);

    t = parse("\xef\xbb\xbf# with everything\n"
              "text: 'a b'\nsecret: \"hunter2\"\ntoken: tok-1\ntarget: llm.x.y\nurl: nats://u:p@host:4222\nflag: "
              "ON\ncount: -5\n"
              "wait: 1m30s\nbytes: 2MiB\nshare: 7\ncolour: blue\npart: {name: p, size: 10kB}\n"
              "parts:\n  - &one {name: a, size: 1}\n  - *one\n  - name: b\nwords: [x, 'y']\nmust: '~'\n");
    assert_string_equal(t->text, "a b");
    assert_string_equal(t->secret, "hunter2");
    assert_true(t->flag);
    assert_int_equal(t->count, -5);
    assert_int_equal(t->wait_ms, 90000);
    assert_int_equal(t->bytes, 2 << 20);
    assert_int_equal(t->share, 7);
    assert_int_equal(t->colour, 2);
    assert_int_equal(t->part.size, 10000);
    assert_int_equal(t->parts.n, 3);
    assert_string_equal(CONF_AT(t->parts, struct part, 1)->name, "a");
    assert_int_equal(CONF_AT(t->parts, struct part, 2)->size, 1024);
    assert_int_equal(t->words.n, 2);
    assert_string_equal(*CONF_AT(t->words, char *, 1), "y");
    assert_string_equal(t->must, "~");
    conf_free(&schema, t);
    conf_free(&schema, NULL);

    /* What is written but empty is left out. */
    t = parse("must: x\ntext:\npart:\nparts: ~\nwords: null\ncount:\n");
    assert_string_equal(t->text, "hello");
    assert_int_equal(t->count, 3);
    conf_free(&schema, t);
}

static void units_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } durations[] = {{"1ms", 1},      {"250ms", 250},        {"30s", 30000},     {"5m", 300000},
                     {"1h", 3600000}, {"0h59m60s", 3600000}, {"10s500ms", 10500}};
    static const char *const no_duration[] = {
        "0",     "-1s", "1.5s", "1 s", "s", "1x", "1S", "2h", "30", "99999999999999999999s", "153722867280912931m",
        "1s-1s", "1s,", "0x1s"};
    static const struct {
        const char *text;
        int64_t bytes;
    } sizes[] = {{"0", 0},
                 {"4096", 4096},
                 {"1B", 1},
                 {"1kB", 1000},
                 {"3KiB", 3072},
                 {"1GB", 1000000000},
                 {"2TiB", INT64_C(2) << 40}};
    static const char *const no_size[] = {"-1", "1KiB1", "1kib", "1.5MiB", "KiB", "8388608TiB", "1 KiB"};
    char text[96];
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        snprintf(text, sizeof text, "must: x\nwait: %s\n", durations[i].text);
        struct thing *t = parse(text);
        assert_int_equal(t->wait_ms, durations[i].ms);
        conf_free(&schema, t);
    }
    for (size_t i = 0; i < sizeof no_duration / sizeof no_duration[0]; i++) {
        char line[96];
        snprintf(text, sizeof text, "must: x\nwait: %s\n", no_duration[i]);
        snprintf(line, sizeof line, "t.yaml:2: wait: found `%s`", no_duration[i]);
        WRONG(text, line);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(text, sizeof text, "must: x\nbytes: %s\n", sizes[i].text);
        struct thing *t = parse(text);
        assert_true(t->bytes == sizes[i].bytes);
        conf_free(&schema, t);
    }
    for (size_t i = 0; i < sizeof no_size / sizeof no_size[0]; i++) {
        snprintf(text, sizeof text, "must: x\nbytes: %s\n", no_size[i]);
        WRONG(text, "t.yaml:2: bytes: found");
    }
}

static void mistakes_name_place_and_remedy(void **state)
{
    (void)state;
    WRONG("must: x\nwait: 2 parsecs\n",
          "t.yaml:2: wait: found `2 parsecs`; allowed: a duration such as 250ms, 30s, 5m, 4h or 7d, 1ms to 1h");
    WRONG("must: x\nwait: 30\n", "t.yaml:2: wait: found `30`: it has no unit; allowed");
    WRONG("must: x\ncount: 101\n", "t.yaml:2: count: found `101`; allowed: a whole number, -5 to 100");
    WRONG("must: x\nshare: 101%\n", "t.yaml:2: share: found `101%`; allowed: a percentage");
    WRONG("must: x\ncolour: pink\n", "t.yaml:2: colour: found `pink`; allowed: one of red, green, blue");
    WRONG("must: x\nflag: maybe\n", "t.yaml:2: flag: found `maybe`; allowed: true or false");
    WRONG("must: x\ntoken: A B\n", "t.yaml:2: token: found `A B`; allowed: a name of");
    WRONG("must: x\ntarget: a..b\n", "t.yaml:2: target: found `a..b`; allowed: names");
    WRONG("must: x\ntarget: ''\n", "t.yaml:2: target: found ``; allowed");
    WRONG("must: x\nurl: ftp://x/\n",
          "t.yaml:2: url: found `ftp://x/`; allowed: a URL with one of the schemes http, nats");
    WRONG("must: x\nurl: 'http://user:pass@ho st/'\n", "t.yaml:2: url: found `http://***@ho st/`; allowed");
    WRONG("must: x\nurl: http://\n", "t.yaml:2: url: found");
    WRONG("must: x\ntext: y\n", "t.yaml:2: text: found `y`; allowed: text, 2 to 10 bytes");
    WRONG("must: x\ntext: \"a\\nb\"\n", "t.yaml:2: text: found `a?b`: byte 1 is a control character");
    WRONG("must: x\ntext: \"a\\0b\"\n", "t.yaml:2: text: found `a`: it holds NUL");
    WRONG("must: x\ntext: [a]\n", "t.yaml:2: text: found a list; allowed: text");
    WRONG("must: x\nsecret: [a]\n", "t.yaml:2: secret: found a list");
    WRONG("must: x\nsecret: \"a\\tb\"\n", "t.yaml:2: secret: found ***: byte 1");
    WRONG("text: hello\n", "t.yaml:1: must: required, but left out; allowed: text, 1 to 1024 bytes");
    WRONG("must: x\nwords: one\n", "t.yaml:2: words: found `one`; allowed: a list such as [a, b]");
    WRONG("must: x\nwords: [a, b, c, d]\n",
          "t.yaml:2: words: found 4 items; allowed: a list such as [a, b], 0 to 3 items");
    WRONG("must: x\nwords:\n  - a\n  - B\n", "t.yaml:4: words[1]: found `B`");
    WRONG("must: x\npart: 7\n", "t.yaml:2: part: found `7`; allowed: keys with values");
    WRONG("must: x\nparts:\n  - name: a\n  - 5\n  -\n", "t.yaml:4: parts[1]: found `5`",
          "t.yaml:5: parts[2]: found ``: the item is empty");
    WRONG("must: x\nparts: {name: a}\n",
          "t.yaml:2: parts: found keys with values; allowed: a list of keys with values");
    WRONG("must: x\nparts:\n  - name: a\n    size: 13\n", "t.yaml:4: parts[0].size: 13 brings bad luck");
    WRONG("must: x\npart: {size: 13}\n", "t.yaml:2: part.size: 13 brings bad luck");
    WRONG("must: x\nparts:\n  - name: a\n  - name: b\n\n    size: 7\n", "t.yaml:6: parts[1].size: 7 is taken");
    WRONG("must: x\n? [a]\n: 1\n", "t.yaml:2: found a list as a key");
    WRONG("must: x\nmust: y\n", "t.yaml:2: must: given twice; first in line 1");
    WRONG("[a]\n", "t.yaml:1: found a list; allowed: keys with values");
    WRONG("just words\n", "t.yaml:1: found `just words`; allowed: keys with values");
    WRONG("", "t.yaml:1: the file is empty");
    WRONG("# nothing\n", "t.yaml:1: the file is empty");
    WRONG("must: x\n---\nmust: y\n", "t.yaml:3: found a second document");
    WRONG("must: [x\n", "t.yaml:2: not YAML: ");
    WRONG("must: \"x\n", "t.yaml:2: not YAML: ");
    WRONG("must: *gone\n", "t.yaml:1: not YAML: ");
    WRONG("must: x\n\tcount: 1\n", "t.yaml:2: not YAML: ");
    WRONG("must: x\ntext: \xff\n", "t.yaml:2: not YAML: ");
    wrong_n("a\0b", 3, (const char *const[]){"t.yaml:1: found a NUL byte"}, 1);
    /* All of them, not only the first. */
    WRONG("wait: 1\ncount: x\nparts:\n  - size: 0\n", "t.yaml:2: count", "t.yaml:1: wait", "t.yaml:4: parts[0].size",
          "t.yaml:1: must");
}

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    WRONG("must: x\ncolor: red\n",
          "t.yaml:2: found unknown key `color`; the nearest known one is `colour`; allowed: text, secret, token");
    WRONG("must: x\nwiat: 1s\n", "t.yaml:2: found unknown key `wiat`; the nearest known one is `wait`");
    WRONG("must: x\npart:\n  nam: a\n",
          "t.yaml:3: part: found unknown key `nam`; the nearest known one is `name`; allowed: name, size");
    WRONG("must: x\n<<: {text: abc}\n", "t.yaml:2: found unknown key `<<` (merge keys are not supported");
    char text[1000] = "must: x\n";
    memset(text + 8, 'k', 900);
    strcpy(text + 908, ": 1\n");
    WRONG(text, "t.yaml:2: found unknown key `kkk");
    /* A report ends somewhere, and a file with more problems is refused all the same. */
    char *many = calloc(1, 200000), *to = many;
    for (int i = 0; i < 5000; i++)
        to += sprintf(to, "k%d: 1\n", i);
    strcpy(to, "must: x\nparts: [{size: 0}]\n");
    struct conf_report r = {0};
    assert_null(conf_parse(&schema, "t.yaml", many, strlen(many), &r));
    assert_int_equal(r.n, 100);
    conf_report_free(&r);
    free(many);
}

static char dir[] = "/tmp/redoubt-conf-XXXXXX";

static const char *file(const char *name, const void *data, size_t n)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    close(fd);
    return path;
}

static void substitution_takes_environment_and_files(void **state)
{
    (void)state;
    char text[512];
    setenv("RT_WORD", "word", 1);
    setenv("RT_EMPTY", "", 1);
    setenv("RT_TRICK", "${RT_WORD}", 1);
    unsetenv("RT_NONE");
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"${RT_WORD}", "word"},
        {"a-${RT_WORD}-${RT_WORD}", "a-word-word"},
        {"${RT_NONE:-def}", "def"},
        {"${RT_EMPTY:-def}", "def"},
        {"'x${RT_EMPTY}'", "x"},
        {"${RT_NONE:-${RT_WORD}}!", "word!"},
        {"${RT_NONE:-${RT_NONE:-${RT_NONE:-deep}}}", "deep"},
        {"'${RT_NONE:-}x'", "x"},
        {"$${RT_WORD}", "${RT_WORD}"},
        {"${RT_TRICK}", "${RT_WORD}"}, /* what was put in is not looked at again */
        {"$5 costs $", "$5 costs $"},
        {"\"$$$${RT_WORD}\"", "$$${RT_WORD}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "must: %s\n", rows[i].in);
        struct thing *t = parse(text);
        assert_string_equal(t->must, rows[i].out);
        conf_free(&schema, t);
    }
    setenv("RT_COUNT", "42", 1);
    struct thing *t = parse("must: x\ncount: ${RT_COUNT}\nwords: ['${RT_WORD}']\npart: {size: '${RT_NONE:-5KiB}'}\n");
    assert_int_equal(t->count, 42);
    assert_int_equal(t->part.size, 5120);
    conf_free(&schema, t);

    snprintf(text, sizeof text, "must: a-${file:%s}-b\n", file("plain", "hidden\n", 7));
    t = parse(text);
    assert_string_equal(t->must, "a-hidden-b");
    conf_free(&schema, t);
    setenv("RT_DIR", dir, 1);
    t = parse("must: ${file:${RT_DIR}/plain}\n");
    assert_string_equal(t->must, "hidden");
    conf_free(&schema, t);
    file("two", "line\n\n", 6);
    WRONG("must: ${file:${RT_DIR}/two}\n",
          "t.yaml:1: must: found `${file:${RT_DIR}/two}`: byte 4 is a control character");
    file("nul", "a\0b", 3);
    WRONG("must: ${file:${RT_DIR}/nul}\n", "t.yaml:1: must: /tmp/redoubt-conf-");
    char *big = calloc(1, 70000);
    memset(big, 'x', 70000);
    file("big", big, 70000);
    free(big);
    WRONG("must: ${file:${RT_DIR}/big}\n", "t.yaml:1: must: the value is longer than 65536 bytes");
    file("latin", "caf\xe9", 4);
    WRONG("must: ${file:${RT_DIR}/latin}\n", "t.yaml:1: must: found `${file:${RT_DIR}/latin}`: byte 3 is not UTF-8");
    snprintf(text, sizeof text, "%s/fifo", dir);
    assert_int_equal(mkfifo(text, 0600), 0);
    WRONG("must: ${file:${RT_DIR}/fifo}\n", "t.yaml:1: must: cannot read /tmp/redoubt-conf-");
    unlink(text);
    WRONG("must: ${file:${RT_DIR}}\n", "t.yaml:1: must: cannot read /tmp/redoubt-conf-");
    WRONG("must: ${file:/no/such/file}\n", "t.yaml:1: must: cannot read /no/such/file: No such file or directory");
    WRONG("must: ${file:relative}\n", "t.yaml:1: must: `${file:relative}`: the path must be absolute");
    WRONG("must: ${RT_NONE}\n", "t.yaml:1: must: environment variable RT_NONE is not set: set it, or give a default "
                                "as in ${RT_NONE:-default}");
    WRONG("must: ${RT_WORD\n", "t.yaml:1: must: `${` without `}`");
    WRONG("must: ${}\n", "t.yaml:1: must: `${}` is none of");
    WRONG("must: ${1A}\n", "t.yaml:1: must: `${1A}` is none of");
    WRONG("must: ${RT WORD}\n", "t.yaml:1: must: `${RT WORD}` is none of");
    WRONG("must: ${RT_WORD:+x}\n", "t.yaml:1: must: `${RT_WORD:+x}` is none of");
    setenv("RT_COUNT", "many", 1);
    WRONG("must: x\ncount: ${RT_COUNT}\n",
          "t.yaml:2: count: found `${RT_COUNT}`: after substitution it is not what is allowed; allowed: a whole");
    char deep[256] = "must: ";
    for (int i = 0; i < 12; i++)
        strcat(deep, "${RT_NONE:-");
    strcat(deep, "x}}}}}}}}}}}}\n");
    WRONG(deep, "t.yaml:1: must: `${...}` is nested more than 8 deep");
}

static void files_are_read(void **state)
{
    (void)state;
    struct conf_report r = {0};
    struct thing *t = conf_load(&schema, file("good.yaml", "must: x\n", 8), &r);
    assert_non_null(t);
    conf_free(&schema, t);
    assert_null(conf_load(&schema, "/no/such.yaml", &r));
    assert_null(conf_load(&schema, dir, &r));
    const char *path = file("bad.yaml", "must: x\nq: 1\n", 13);
    assert_null(conf_load(&schema, path, &r));
    assert_int_equal(r.n, 3);
    assert_memory_equal(r.lines[0], "/no/such.yaml: cannot be read: No such file or directory", 50);
    assert_memory_equal(r.lines[2], path, strlen(path));
    conf_report_free(&r);
    char *big = malloc((64 << 20) + 1);
    memset(big, '#', (64 << 20) + 1);
    assert_null(conf_load(&schema, file("big.yaml", big, (64 << 20) + 1), &r));
    free(big);
    assert_int_equal(r.n, 1);
    assert_non_null(strstr(r.lines[0], "found more than 64 MiB"));
    conf_report_free(&r);

    int fds[2], saved = dup(STDIN_FILENO);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "must: piped\nz: 1", 16), 16);
    close(fds[1]);
    dup2(fds[0], STDIN_FILENO);
    assert_null(conf_load(&schema, "-", &r));
    assert_memory_equal(r.lines[0], "stdin:2: found unknown key `z`", 30);
    dup2(saved, STDIN_FILENO);
    close(saved);
    close(fds[0]);
    conf_report_free(&r);
}

struct shown {
    char text[16384];
};
static void keep_line(void *ctx, const char *line)
{
    struct shown *s = ctx;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s\n", line);
}

static void what_is_shown_reads_back(void **state)
{
    (void)state;
    static struct shown first, second;
    struct thing *t = parse(
        "text: 'q\"b\\s'\nsecret: hunter2\ntoken: 'on'\nurl: http://user:pw@host:80/x\nwait: 90s\nbytes: 3145728\n"
        "count: 0\nparts: [{name: a}, {name: '007', size: 1500}]\nwords: ['null', yes]\nmust: 'a: $${b} #c'\n");
    first.text[0] = 0;
    conf_show(&schema, t, false, keep_line, &first);
    assert_null(strstr(first.text, "hunter2"));
    assert_null(strstr(first.text, ":pw@"));
    assert_non_null(strstr(first.text, "secret: \"***\"\n"));
    assert_non_null(strstr(first.text, "url: \"http://***@host:80/x\"\n"));
    assert_non_null(strstr(first.text, "wait: 90s\n"));
    assert_non_null(strstr(first.text, "bytes: 3MiB\n"));
    assert_non_null(strstr(first.text, "must: \"a: $${b} #c\"\n"));
    struct thing *again = parse(first.text);
    assert_string_equal(again->must, "a: ${b} #c");
    assert_string_equal(again->text, t->text);
    assert_string_equal(CONF_AT(again->parts, struct part, 1)->name, "007");
    assert_string_equal(*CONF_AT(again->words, char *, 0), "null");
    second.text[0] = 0;
    conf_show(&schema, again, false, keep_line, &second);
    assert_string_equal(first.text, second.text);
    conf_free(&schema, again);

    second.text[0] = 0;
    conf_show(&schema, t, true, keep_line, &second);
    assert_non_null(strstr(second.text, "# A duration.\n# Default: 30s; a duration such as 250ms, 30s, 5m, 4h or 7d, "
                                        "1ms to 1h. Needs a restart.\nwait: 90s\n"));
    assert_non_null(strstr(second.text, "# Needed.\n# Required; text, 1 to 1024 bytes. Needs a restart.\nmust: "));
    again = parse(second.text);
    conf_free(&schema, again);
    conf_free(&schema, t);
    /* An empty list still says what its items may hold. */
    t = parse("must: x");
    second.text[0] = 0;
    conf_show(&schema, t, true, keep_line, &second);
    assert_non_null(strstr(second.text, "parts: []\n"));
    assert_non_null(strstr(second.text, "# - name: \"\"\n"));
    again = parse(second.text);
    conf_free(&schema, again);
    conf_free(&schema, t);
}

static void reload_takes_only_what_may_change(void **state)
{
    (void)state;
    struct conf_report r = {0};
    struct thing *was = parse("must: x\nparts: [{name: a}]\n");
    struct thing *same = parse("parts: [{name: a}]\nmust: x\nwait: 30s\n");
    struct thing *soft = parse("must: x\nsecret: s\nflag: yes\nparts: [{name: a, size: 5}, {name: b}]\n");
    struct thing *hard = parse("must: y\nwait: 31s\npart: {size: 9}\nwords: [a]\nsecret: s\nparts: [{name: a}]\n");
    assert_true(conf_may_reload(&schema, was, same, &r));
    assert_true(conf_may_reload(&schema, was, soft, &r));
    assert_int_equal(r.n, 0);
    assert_false(conf_may_reload(&schema, was, hard, &r));
    static const char *const keys[] = {"wait: changed", "part.size: changed", "words: changed", "must: changed"};
    assert_int_equal(r.n, 4);
    for (size_t i = 0; i < 4; i++)
        assert_memory_equal(r.lines[i], keys[i], strlen(keys[i]));
    conf_report_free(&r);
    conf_free(&schema, was);
    conf_free(&schema, same);
    conf_free(&schema, soft);
    conf_free(&schema, hard);
}

static void aliases_in_circles_end(void **state)
{
    (void)state;
    WRONG("must: x\npart: &p {name: *p}\n", "t.yaml:2: part.name: found keys with values");
    char *text = calloc(1, 400000), *to = text + sprintf(text, "must: x\nwords: &w [a]\nparts: [");
    for (int i = 0; i < 50000; i++)
        to += sprintf(to, "*w,");
    strcpy(to, "]\n");
    WRONG(text, "t.yaml:3: parts: found 50000 items; allowed");
    to = text + sprintf(text, "must: ");
    memset(to, '[', 100000);
    to[100000] = 0;
    WRONG(text, "t.yaml:1: nested more than 32 deep");
    to = text + sprintf(text, "must: x\nwords: [");
    for (int i = 0; i < 20000; i++)
        to += sprintf(to, "&w%d a, ", i);
    strcpy(to, "]\n");
    WRONG(text, "t.yaml:2: found more than 1000 anchors");
    free(text);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int clean_up(void **state)
{
    (void)state;
    static const char *const names[] = {"plain", "two", "nul", "big", "latin", "good.yaml", "bad.yaml", "big.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_values_are_read),
        cmocka_unit_test(units_are_exact),
        cmocka_unit_test(mistakes_name_place_and_remedy),
        cmocka_unit_test(unknown_keys_name_the_nearest),
        cmocka_unit_test(substitution_takes_environment_and_files),
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(what_is_shown_reads_back),
        cmocka_unit_test(reload_takes_only_what_may_change),
        cmocka_unit_test(aliases_in_circles_end),
    };
    return cmocka_run_group_tests(tests, set_up, clean_up);
}
