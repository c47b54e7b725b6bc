"""A window on runs in the browser: a local server and one page. No torch but where a module says so."""
