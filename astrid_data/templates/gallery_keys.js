// Keys of the gallery: heard while it has the focus, told to the kernel
function render({ model, el }) {
  el.textContent = model.get('words');
  const answer = event => {
    const typing = event.target.closest('input, select, textarea');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!model.get('heard').includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ key: event.key });
  };
  let area = null;
  const attach = () => {
    area = el.closest('.' + model.get('area'));
    if (!area) return requestAnimationFrame(attach);
    area.tabIndex = 0;
    area.dataset.lmSuppressShortcuts = 'true';
    area.addEventListener('keydown', answer);
  };
  attach();
  return () => area && area.removeEventListener('keydown', answer);
}
export default { render };
