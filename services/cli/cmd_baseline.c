/* cmd_baseline.c - redoubt baseline: is the security baseline right and signed off, signing it, and which one the guard goes by. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "common/baseline.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int print_problems(const struct conf_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        fprintf(stderr, "%s\n", r->lines[i]);
    return CLI_USAGE;
}

/* What the arguments say, else what the settings say; texts live as long as *ret_settings. False after saying why. */
static bool find_baseline(struct cli *c, const struct opts_baseline *o, int argc, char **argv,
                          struct set_baseline *ret, struct settings **ret_settings)
{
    *ret_settings = NULL;
    *ret = (struct set_baseline){.path = argc ? argv[0] : NULL, .public_key = (char *)(o->key ? o->key : "")};
    if (argc)
        return true;
    struct settings *s = cli_settings(c);
    if (!s)
        return false;
    *ret_settings = s;
    ret->path = s->baseline.path;
    if (!o->key)
        ret->public_key = s->baseline.public_key;
    return true;
}

int cmd_baseline_check(struct cli *c, const void *opts, int argc, char **argv)
{
    struct set_baseline set;
    struct settings *s;
    struct conf_report report = {0};
    char when[CLOCK_TEXT_MAX];
    if (!find_baseline(c, opts, argc, argv, &set, &s))
        return CLI_USAGE;
    struct baseline *b = *set.path ? baseline_read(set.path, &report) : NULL;
    int code = b || !*set.path ? CLI_OK : print_problems(&report);
    conf_report_free(&report);
    baseline_free(b);
    if (code == CLI_OK) {
        b = baseline_load(&set);
        if (b->trusted)
            printf("%s: good: version %s, %zu actions, signed off by %s at %s%s\n", set.path, b->version, b->actions.n,
                   b->signed_by, clock_text(b->signed_ms, when), *set.public_key ? ", signature good" : "");
        else
            code = cli_fail(c, CLI_REFUSED, "not trusted, the guard would refuse every action: %s", b->error);
        baseline_free(b);
    }
    settings_free(s);
    return code;
}

static void print_line(void *ctx, const char *line)
{
    (void)ctx;
    puts(line);
}

int cmd_baseline_show(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_baseline *o = opts;
    struct set_baseline set;
    struct settings *s;
    struct conf_report report = {0};
    if (!find_baseline(c, opts, argc, argv, &set, &s))
        return CLI_USAGE;
    int code = CLI_OK;
    struct baseline *b = *set.path ? baseline_read(set.path, &report) : NULL;
    if (b)
        conf_show(&baseline_file_schema, b, o->help_text, print_line, NULL);
    else if (*set.path)
        code = print_problems(&report);
    else
        code = cli_fail(c, CLI_REFUSED, "the settings name no baseline (baseline.path); the strict built-in allows nothing");
    conf_report_free(&report);
    baseline_free(b);
    settings_free(s);
    return code;
}

/* A secret key as `keygen` writes it. */
static int read_secret(struct cli *c, const char *path, unsigned char key[static BASELINE_KEY_BYTES])
{
    char text[256];
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return cli_fail(c, CLI_USAGE, "%s: cannot be read: %s", path, strerror(errno));
    text[got] = 0;
    int bad = sodium_base642bin(key, BASELINE_KEY_BYTES, text, (size_t)got, "\r\n ", &n, NULL,
                                sodium_base64_VARIANT_ORIGINAL) ||
              n != BASELINE_KEY_BYTES;
    sodium_memzero(text, sizeof text);
    return bad ? cli_fail(c, CLI_USAGE, "%s: is no key of `redoubt baseline keygen`", path) : CLI_OK;
}

int cmd_baseline_sign(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_baseline *o = opts;
    unsigned char key[BASELINE_KEY_BYTES];
    struct err e = {""};
    if (!o->by)
        return cli_fail(c, CLI_USAGE, "--by NAME is required: it is part of the sign-off");
    int code = o->key ? read_secret(c, o->key, key) : CLI_OK;
    if (code != CLI_OK)
        return code;
    int bad = baseline_sign(argv[0], o->by, o->key ? key : NULL, &e);
    sodium_memzero(key, sizeof key);
    if (bad)
        return cli_fail(c, CLI_USAGE, "%s", e.text);
    printf("%s.signoff: signed off by %s%s\n", argv[0], o->by, o->key ? ", with a signature" : ", by its hash alone");
    return CLI_OK;
}

int cmd_baseline_keygen(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts, (void)argc;
    unsigned char public_key[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
    char text[sodium_base64_ENCODED_LEN(sizeof secret, sodium_base64_VARIANT_ORIGINAL) + 1], shown[64];
    if (sodium_init() < 0)
        return cli_fail(c, CLI_FAILED, "no source of randomness");
    int fd = open(argv[0], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* a key is never written over */
    if (fd < 0)
        return cli_fail(c, CLI_USAGE, "%s: cannot be written: %s", argv[0], strerror(errno));
    crypto_sign_keypair(public_key, secret);
    sodium_bin2base64(text, sizeof text - 1, secret, sizeof secret, sodium_base64_VARIANT_ORIGINAL);
    size_t len = strlen(text);
    text[len++] = '\n';
    bool good = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    sodium_memzero(text, sizeof text);
    sodium_memzero(secret, sizeof secret);
    if (!good) {
        (void)unlink(argv[0]);
        return cli_fail(c, CLI_FAILED, "%s: cannot be written", argv[0]);
    }
    sodium_bin2base64(shown, sizeof shown, public_key, sizeof public_key, sodium_base64_VARIANT_ORIGINAL);
    printf("public_key: %s\n", shown);
    return CLI_OK;
}

static void print_report(const PB(BaselineReport) * r)
{
    char when[CLOCK_TEXT_MAX];
    if (r->trusted)
        printf("version %s, %u actions, signed off by %s, loaded %s\nsha256 %s\n", r->version, r->actions,
               r->signed_off_by, clock_text(r->loaded_unix_ms, when), r->sha256);
    else
        printf("not trusted, every action is refused: %s\n", r->error);
}

int cmd_baseline_status(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_baseline *o = opts;
    (void)argc, (void)argv;
    PB(GuardCommand) m = PB_INIT(GUARD_COMMAND);
    PB(CommandReply) *reply = NULL;
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = cli_ask(&link, "guard", "baseline", &m, &reply)) == CLI_OK) {
        struct err e = {""};
        PB(BaselineReport) *r = wire_unpack(PB_DESC(baseline_report), reply->payload.data, reply->payload.len, &e);
        if (!r) {
            code = cli_fail(c, CLI_FAILED, "the guard's answer cannot be read: %s", e.text);
        } else if (o->json) {
            char *text = wire_json(r);
            printf("%s\n", text ? text : "{}");
            free(text);
        } else {
            print_report(r);
        }
        if (r && !r->trusted)
            code = CLI_FAILED;
        wire_free(r);
    }
    wire_free(reply);
    cli_link_close(&link);
    return code;
}
