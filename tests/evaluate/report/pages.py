"""A page as a browser reads it: whether it is well-formed, what it asks for, its tables."""

import html.parser

VOID = {"meta", "br", "path", "use", "image", "img", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Tables as `[heading, rows of cells]`, ids, references, and the elements met."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tables, self.references, self.ids, self.met = [], [], [], [], []
        self.heading = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self._meet(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append((self.heading, []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        if tag in ("h2", "h3"):
            self.heading = ""

    def handle_startendtag(self, tag, attributes):
        self._meet(tag, attributes)

    def _meet(self, tag, attributes):
        self.met.append((tag, dict(attributes)))
        for name, value in attributes:
            if name in ("href", "src", "xlink:href", "data", "action", "poster", "srcset"):
                self.references.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, (tag, self.open)
            self.open.pop()

    def handle_data(self, text):
        if self.open and self.open[-1] in ("h2", "h3"):
            self.heading += text
        elif {"td", "th"} & set(self.open):
            self.tables[-1][1][-1][-1] += text

    def table(self, heading):
        """Returns the rows of the only table under a heading."""
        (found,) = [rows for name, rows in self.tables if name == heading]
        return found
