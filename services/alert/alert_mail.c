/* alert_mail.c - an alert as a mail: headers, and a body in the plainest encoding that carries it. */
#include "alert/alert_mail.h"
#include "alert/alert_text.h"
#include "common/utf8.h"
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_SOFT   76  /* of encoded text and words */
#define LINE_PLAIN  900 /* longer lines need an encoding: SMTP has 998 */
#define WORD_BYTES  45  /* of text per encoded word: 60 characters of base64 + 12 = under 75 */
#define HEADER_SOFT 900

static bool plain(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
            return false;
    return true;
}

/* Unstructured text as a header's value (RFC 2047). What looks like an encoded word already is encoded as well. */
static void header_text(FILE *f, const char *name, const char *value)
{
    fprintf(f, "%s:", name);
    if (plain(value) && strlen(value) <= HEADER_SOFT && !strstr(value, "=?")) {
        fprintf(f, " %s\n", value);
        return;
    }
    size_t len = strlen(value);
    for (size_t at = 0; at < len;) {
        size_t n = alert_text_cut(value + at, WORD_BYTES, WORD_BYTES); /* whole code points only */
        if (n == 0)
            break;
        char word[sodium_base64_ENCODED_LEN(WORD_BYTES, sodium_base64_VARIANT_ORIGINAL)];
        sodium_bin2base64(word, sizeof word, (const unsigned char *)value + at, n, sodium_base64_VARIANT_ORIGINAL);
        fprintf(f, "%s=?UTF-8?B?%s?=", at ? "\n " : " ", word);
        at += n;
    }
    fputc('\n', f);
}

/* Printable ASCII only, whatever comes: for values that are names by contract. */
static void header_token(FILE *f, const char *name, const char *value)
{
    fprintf(f, "%s: ", name);
    for (; *value; value++)
        fputc(*value > 0x20 && *value < 0x7f ? *value : '_', f);
    fputc('\n', f);
}

static void header_date(FILE *f, int64_t unix_ms)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    fprintf(f, "Date: %s, %d %s %d %02d:%02d:%02d +0000\n", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
            tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* Mail programs put mails with one reference into one thread: a problem's firing and its end; all messages of one bucket, whose ids are
 * p-<bucket>-<first>-<last>. */
static void header_thread(FILE *f, const struct alert_message *m, const char *domain)
{
    unsigned char hash[16];
    char hex[33];
    const char *what = m->kind == ALERT_MESSAGE_ONE ? "problem" : "digest";
    const char *of = m->kind == ALERT_MESSAGE_ONE ? m->alerts[0]->dedup_key : m->id;
    size_t len = 0;
    for (int dashes = 0; of[len] && (m->kind == ALERT_MESSAGE_ONE || of[len] != '-' || ++dashes < 2);)
        len++;
    crypto_generichash(hash, sizeof hash, (const unsigned char *)of, len, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    fprintf(f, "References: <%s.%s@%s>\n", what, hex, domain);
}

static bool needs_encoding(const char *text)
{
    size_t line = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\n')
            line = 0;
        else if (++line > LINE_PLAIN || c > 0x7e || (c < 0x20 && c != '\t'))
            return true;
    }
    return false;
}

/* Quoted-printable (RFC 2045, 6.7). */
static void quoted(FILE *f, const char *text)
{
    size_t line = 0;
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '\n') {
            fputc('\n', f);
            line = 0;
            continue;
        }
        bool end_of_line = p[1] == '\n' || p[1] == 0;
        bool as_is = c != '=' && ((c > 0x20 && c < 0x7f) || ((c == ' ' || c == '\t') && !end_of_line));
        size_t width = as_is ? 1 : 3;
        if (line + width > LINE_SOFT - 1) {
            fputs("=\n", f);
            line = 0;
        }
        if (as_is)
            fputc(c, f);
        else
            fprintf(f, "=%02X", c);
        line += width;
    }
}

char *alert_mail_compose(const struct alert_message *message, const struct alert_mail *m, size_t *ret_len)
{
    char *mail = NULL, title[ALERT_TITLE_MAX];
    const char *at = strrchr(m->from, '@'), *domain = at && at[1] ? at + 1 : "localhost";
    char *body = alert_text_body(message);
    FILE *f = body ? open_memstream(&mail, ret_len) : NULL;
    if (!f) {
        free(body);
        return NULL;
    }
    header_date(f, m->now_unix_ms);
    fprintf(f, "From: Redoubt <%s>\n", m->from);
    for (size_t i = 0; m->to[i]; i++)
        fprintf(f, "%s<%s>%s\n", i ? " " : "To: ", m->to[i], m->to[i + 1] ? "," : "");
    header_text(f, "Subject", alert_text_headline(message, title));
    fprintf(f, "Message-ID: <%s.%s@%s>\n", message->id, m->channel, domain);
    header_thread(f, message, domain);
    fputs("Auto-Submitted: auto-generated\n", f);
    header_token(f, "X-Redoubt-Alert", message->id);
    header_token(f, "X-Redoubt-Severity", wire_enum_name(&redoubt__v1__severity__descriptor, message->severity));
    if (message->kind != ALERT_MESSAGE_ONE)
        fprintf(f, "X-Redoubt-Alerts: %zu\n", message->total);
    if (!message->resolved && message->severity == REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL)
        fputs("X-Priority: 1\nImportance: high\n", f);
    bool encode = needs_encoding(body);
    fprintf(f, "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: %s\n\n",
            encode ? "quoted-printable" : "7bit");
    if (encode)
        quoted(f, body);
    else
        fputs(body, f);
    free(body);
    if (fclose(f)) {
        free(mail);
        return NULL;
    }
    return mail;
}
