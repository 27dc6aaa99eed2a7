/* report_page.c - the frame of a report's page. Its policy lets it load nothing and run nothing, whatever a text in it says. */
#include "continuity/report_page.h"
#include "continuity/report.h"

void report_page_begin(struct report_text *o, const char *eyebrow, const char *title)
{
    report_add(o, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                  "'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
    report_html(o, title, 120);
    report_add(o, "</title>\n<style>\n");
    report_add(o, report_style);
    report_addf(o, "</style>\n</head>\n<body>\n<header>\n<p class=\"eyebrow\">%s</p>\n<h1>", eyebrow);
    report_html(o, title, 512);
    report_add(o, "</h1>\n");
}

void report_page_section(struct report_text *o, const char *id, const char *title)
{
    report_addf(o, "<h2 id=\"%s\">%s</h2>\n", id, title);
}

void report_page_table(struct report_text *o, const char *caption, const char *const *columns, size_t n,
                       unsigned numbers)
{
    report_addf(o, "<div class=\"scroll\"><table>\n<caption>%s</caption>\n<thead><tr>", caption);
    for (size_t i = 0; i < n; i++)
        report_addf(o, "<th scope=\"col\"%s>%s</th>", numbers >> i & 1 ? " class=\"n\"" : "", columns[i]);
    report_add(o, "</tr></thead>\n<tbody>\n");
}

void report_page_table_end(struct report_text *o)
{
    report_add(o, "</tbody>\n</table></div>\n");
}

void report_page_end(struct report_text *o, const char *said)
{
    report_add(o, "</main>\n<footer><p>");
    report_html(o, said, 300);
    report_add(o, "</p></footer>\n</body>\n</html>\n");
}

const char *report_outcome_words(int outcome)
{
    static const char *const list[] = {"not said", "intended", "done", "failed", "refused"};
    return outcome >= 0 && outcome < 5 ? list[outcome] : "unknown";
}
