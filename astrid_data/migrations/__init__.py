"Migrations of the additional tables (`ad_…`); run by `Registry.upgrade`, never touching a table of AstrID's."
