// Keys and buttons of the tiles: told to the kernel in order, together with what the person saw
const KEPT = 20; // Each message repeats the ones before: of two that overtake each other none is lost

function render({ model, el }) {
  el.textContent = model.get('words');
  let area = null;
  const view = Math.random().toString(36).slice(2);
  const said = [];
  const rows = box => [...box.querySelectorAll('[data-row]')].map(tile => Number(tile.dataset.row));
  const labeller = () => area.querySelector('.' + model.get('labeller') + ' input')?.value;
  const send = what => {
    const number = said.length ? said.at(-1).number + 1 : 1;
    said.push({ ...what, number, seen: rows(area), labeller: labeller() });
    if (said.length > KEPT) said.shift();
    model.send({ view, said });
  };
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
    const action = button?.textContent.trim();
    if (!tile || !model.get('actions').includes(action)) return;
    stop(event);
    send({ action, row: rows(tile)[0] });
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
