// All is drawn once; sorting draws the table anew.

element("about").textContent = `The figures are those of table.md, cells.csv and seeds.csv beside this page. remit_lit ${data.version}.`;
drawTable();
drawForests();
document.documentElement.dataset.ready = "true";
