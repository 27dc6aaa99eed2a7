/* term.c - what a person sees: colour, clean text, aligned tables. */
#include "cli/term.h"
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

static const char *const codes[TERM_COLOURS] = {
    [TERM_PLAIN] = "",         [TERM_BOLD] = "\033[1m",    [TERM_DIM] = "\033[2m",   [TERM_RED] = "\033[1;31m",
    [TERM_GREEN] = "\033[32m", [TERM_YELLOW] = "\033[33m", [TERM_CYAN] = "\033[36m",
};
#define ELLIPSIS "\xe2\x80\xa6"
#define CELL_MAX 2048
#define GAP      2 /* columns between two cells */

void term_measure(struct term *t)
{
    struct winsize w;
    t->columns = t->tty && ioctl(fileno(t->file), TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

void term_init(struct term *t, FILE *file)
{
    const char *no_colour = getenv("NO_COLOR"), *kind = getenv("TERM");
    *t = (struct term){.file = file, .tty = isatty(fileno(file)) == 1};
    t->colour = t->tty && !(no_colour && *no_colour) && !(kind && strcmp(kind, "dumb") == 0);
    term_measure(t);
}

/* One character: its bytes in *ret_len, its columns as the result; -1 = cannot be shown. */
static int next_char(const char *p, size_t left, mbstate_t *state, size_t *ret_len)
{
    wchar_t c;
    size_t n = mbrtowc(&c, p, left, state);
    if (n == 0 || n == (size_t)-1 || n == (size_t)-2) {
        memset(state, 0, sizeof *state);
        *ret_len = 1;
        return -1;
    }
    *ret_len = n;
    return wcwidth(c);
}

size_t term_width(const char *text)
{
    mbstate_t state = {0};
    size_t width = 0, n;
    for (size_t left = strlen(text); left > 0; left -= n, text += n) {
        int w = next_char(text, left, &state, &n);
        width += w < 0 ? 1 : (size_t)w;
    }
    return width;
}

char *term_clean(const char *text, size_t columns, char *buf, size_t size)
{
    assert(size > sizeof ELLIPSIS);
    mbstate_t state = {0};
    size_t used = 0, width = 0, cut_used = 0, n;
    bool cut = false;
    for (size_t left = strlen(text); left > 0; left -= n, text += n) {
        int w = next_char(text, left, &state, &n);
        const char *from = w < 0 ? "?" : text;
        size_t bytes = w < 0 ? 1 : n, cols = w < 0 ? 1 : (size_t)w;
        /* The place where the … goes if the text turns out to be too long. */
        if ((columns == 0 || width + 1 <= columns) && used + sizeof ELLIPSIS <= size)
            cut_used = used;
        if ((columns > 0 && width + cols > columns) || used + bytes >= size) {
            cut = true;
            break;
        }
        memcpy(buf + used, from, bytes);
        used += bytes;
        width += cols;
    }
    if (cut) {
        memcpy(buf + cut_used, ELLIPSIS, sizeof ELLIPSIS);
        return buf;
    }
    buf[used] = 0;
    return buf;
}

const char *term_on(const struct term *t, enum term_colour c)
{
    return t->colour ? codes[c] : "";
}

const char *term_off(const struct term *t)
{
    return t->colour ? "\033[0m" : "";
}

void term_print(const struct term *t, enum term_colour c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    int n = t->colour && c != TERM_PLAIN ? vasprintf(&text, fmt, ap) : -1;
    if (n < 0) {
        vfprintf(t->file, fmt, ap);
    } else {
        /* Line ends stay outside: a colour never crosses a line. */
        size_t head = strspn(text, "\n"), tail = (size_t)n;
        while (tail > head && text[tail - 1] == '\n')
            tail--;
        fprintf(t->file, "%.*s%s%.*s%s%s", (int)head, text, codes[c], (int)(tail - head), text + head, term_off(t),
                text + tail);
        free(text);
    }
    va_end(ap);
}

/* ---- tables ---- */

struct cell {
    char *text;
    enum term_colour colour;
};
struct term_table {
    const struct term_column *columns;
    size_t n_columns;
    struct cell *cells;
    size_t n, cap;
};

struct term_table *term_table_begin(const struct term_column *columns, size_t n)
{
    struct term_table *tab = calloc(1, sizeof *tab);
    if (!tab)
        abort();
    tab->columns = columns;
    tab->n_columns = n;
    for (size_t i = 0; i < n; i++)
        term_cell(tab, TERM_DIM, "%s", columns[i].title);
    return tab;
}

void term_cell(struct term_table *tab, enum term_colour c, const char *fmt, ...)
{
    char raw[CELL_MAX], clean[CELL_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    if (tab->n == tab->cap) {
        tab->cap = tab->cap ? 2 * tab->cap : 64;
        tab->cells = reallocarray(tab->cells, tab->cap, sizeof *tab->cells);
        if (!tab->cells)
            abort();
    }
    char *text = strdup(term_clean(raw, 0, clean, sizeof clean));
    if (!text)
        abort();
    tab->cells[tab->n++] = (struct cell){.text = text, .colour = c};
}

static void pad(FILE *f, size_t n)
{
    for (; n > 0; n--)
        fputc(' ', f);
}

static void print_cell(const struct term_table *tab, const struct term *t, size_t col, const struct cell *c,
                       size_t width, size_t room)
{
    char cut[CELL_MAX];
    bool last = col + 1 == tab->n_columns;
    const char *text = last && room > 0 ? term_clean(c->text, room, cut, sizeof cut) : c->text;
    size_t w = term_width(text);
    if (tab->columns[col].right && w < width)
        pad(t->file, width - w);
    term_print(t, c->colour, "%s", text);
    if (!last)
        pad(t->file, (tab->columns[col].right || w > width ? 0 : width - w) + GAP);
}

void term_table_end(struct term_table *tab, const struct term *t, const char *indent)
{
    assert(tab->n % tab->n_columns == 0 && "a row of the table is not complete");
    size_t *width = calloc(tab->n_columns, sizeof *width);
    if (!width)
        abort();
    for (size_t i = 0; i < tab->n; i++) {
        size_t w = term_width(tab->cells[i].text);
        if (w > width[i % tab->n_columns])
            width[i % tab->n_columns] = w;
    }
    size_t before_last = strlen(indent);
    for (size_t i = 0; i + 1 < tab->n_columns; i++)
        before_last += width[i] + GAP;
    /* Only the last column is cut, and only if something useful is left of it. */
    size_t room = t->columns > 0 && (size_t)t->columns > before_last + 8 ? (size_t)t->columns - before_last : 0;
    for (size_t i = 0; i < tab->n; i++) {
        size_t col = i % tab->n_columns;
        if (col == 0)
            fputs(indent, t->file);
        print_cell(tab, t, col, &tab->cells[i], width[col], room);
        if (col + 1 == tab->n_columns)
            fputc('\n', t->file);
        free(tab->cells[i].text);
    }
    free(width);
    free(tab->cells);
    free(tab);
}
