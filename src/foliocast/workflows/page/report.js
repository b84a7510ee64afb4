(function () {
  "use strict";
  var all = function (q, root) { return Array.prototype.slice.call((root || document).querySelectorAll(q)); };
  all(".legend button").forEach(function (button) {
    button.addEventListener("click", function () {
      var off = button.classList.toggle("off"), key = button.dataset.s;
      button.setAttribute("aria-pressed", String(!off));
      all('.legend button[data-s="' + key + '"]').forEach(function (b) { b.classList.toggle("off", off); });
      all('path[data-s="' + key + '"]').forEach(function (p) { p.style.display = off ? "none" : ""; });
    });
  });
  var pick = document.getElementById("pick");
  if (pick) {
    var show = function () { all("[data-of]").forEach(function (e) { e.hidden = e.dataset.of !== pick.value; }); };
    pick.addEventListener("change", show);
    show();
  }
  all(".chart[data-hover]").forEach(function (chart) {
    var data = JSON.parse(chart.dataset.hover), plot = chart.querySelector(".plot");
    var cross = document.createElement("div"), tip = document.createElement("div");
    cross.className = "cross"; tip.className = "tip"; plot.append(cross, tip);
    var hide = function () { cross.style.display = tip.style.display = "none"; };
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("pointermove", function (event) {
      var box = plot.getBoundingClientRect(), n = data.x.length;
      var k = Math.max(0, Math.min(n - 1, Math.round((event.clientX - box.left) / box.width * (n - 1))));
      var rows = data.s.map(function (s) { return [s[0], s[1], s[2][k]]; }).filter(function (r) { return r[2] !== null; });
      rows.sort(function (a, b) { return b[2] - a[2]; });
      tip.textContent = "";
      var head = document.createElement("b"); head.textContent = data.x[k]; tip.append(head);
      rows.forEach(function (r) {
        var row = document.createElement("div"), dot = document.createElement("i"), text = document.createElement("em");
        row.className = "s" + r[1]; dot.className = "dot";
        text.textContent = r[0] + "  " + (data.u === "%" ? (r[2] * 100).toFixed(1) + " %" : r[2].toFixed(2));
        row.append(dot, text); tip.append(row);
      });
      cross.style.display = tip.style.display = "block";
      var x = k / Math.max(1, n - 1) * box.width;
      cross.style.left = x + "px";
      tip.style.left = Math.max(0, x > box.width / 2 ? x - tip.offsetWidth - 12 : x + 12) + "px";
    });
  });
})();
