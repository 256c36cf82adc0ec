// Mark what was paid out.
for (const cell of document.querySelectorAll(".amount")) {
  cell.classList.toggle("negative", cell.textContent.trim().startsWith("-"));
}
