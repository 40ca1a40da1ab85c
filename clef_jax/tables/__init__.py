"""Reading tables of people: files, columns, matching of rows."""
