/* term.h - what a person sees: colour only where it is wanted, columns aligned by the width that characters really have. */
#ifndef REDOUBT_CLI_TERM_H
#define REDOUBT_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum term_colour {
    TERM_PLAIN,
    TERM_BOLD,
    TERM_DIM,
    TERM_RED,
    TERM_GREEN,
    TERM_YELLOW,
    TERM_CYAN,
    TERM_COLOURS,
};

struct term {
    FILE *file;
    bool colour; /* a terminal, and no NO_COLOR in the environment */
    bool tty;
    int columns; /* 0 = not a terminal: nothing is cut */
};
void term_init(struct term *t, FILE *file);
/* Reads the terminal's width anew (it may have been resized). */
void term_measure(struct term *t);

/* Columns that the text takes on a terminal. */
size_t term_width(const char *text);
/* Copies text with control characters and broken UTF-8 as '?', so that nothing that came over the bus can drive the
 * terminal; cut to `columns` with a final … if columns is not 0. Returns buf. */
char *term_clean(const char *text, size_t columns, char *buf, size_t size);

__attribute__((format(printf, 3, 4))) void term_print(const struct term *t, enum term_colour c, const char *fmt, ...);
const char *term_on(const struct term *t, enum term_colour c); /* "" without colour */
const char *term_off(const struct term *t);

/* A table: columns, then cells row by row; printed by term_table_end(), which frees it. */
struct term_column {
    const char *title;
    bool right; /* numbers */
};
struct term_table;
struct term_table *term_table_begin(const struct term_column *columns, size_t n);
__attribute__((format(printf, 3, 4))) void term_cell(struct term_table *tab, enum term_colour c, const char *fmt,
                                                     ...);
void term_table_end(struct term_table *tab, const struct term *t, const char *indent);

#endif
