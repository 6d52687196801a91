"""Results for the eye: a page in the browser, and reports that are one file."""
