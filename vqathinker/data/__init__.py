"""Label files and data sets: tables in, rows of paths, ids and labels out.

Videos are opened to inspect them alone (`prepare`). What takes seconds to import, such as datasets, is loaded
by those that use it.
"""
