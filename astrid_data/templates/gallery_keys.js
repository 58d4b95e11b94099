// Keys and verdict buttons of the gallery: told to the kernel together with what the person saw
function render({ model, el }) {
  el.textContent = model.get('words');
  let area = null;
  const rows = box => [...box.querySelectorAll('[data-row]')].map(tile => Number(tile.dataset.row));
  const labeller = () => area.querySelector('.' + model.get('labeller') + ' input')?.value;
  const send = what => model.send({ ...what, seen: rows(area), labeller: labeller() });
  const stop = event => {
    event.preventDefault();
    event.stopPropagation();
  };
  const press = event => {
    const typing = event.target.closest('input, select, textarea');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!model.get('heard').includes(event.key)) return;
    stop(event);
    send({ key: event.key });
  };
  const click = event => {
    const button = event.target.closest('button');
    const byMouse = event.detail > 0;
    if (button && byMouse) area.focus({ preventScroll: true });
    const tile = button?.closest('.' + model.get('tile'));
    const verdict = button?.textContent.trim();
    if (!tile || !model.get('verdicts').includes(verdict)) return;
    stop(event);
    send({ verdict, row: rows(tile)[0] });
  };
  const attach = () => {
    area = el.closest('.' + model.get('area'));
    if (!area) return requestAnimationFrame(attach);
    area.tabIndex = 0;
    area.dataset.lmSuppressShortcuts = 'true';
    area.addEventListener('keydown', press);
    area.addEventListener('click', click, true);
  };
  attach();
  return () => {
    area?.removeEventListener('keydown', press);
    area?.removeEventListener('click', click, true);
  };
}
export default { render };
