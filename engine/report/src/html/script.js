(function(){
var find=document.getElementById('find'),told=document.getElementById('found'),all=document.querySelectorAll('details[data-step]');
function show(){var words=find.value.toLowerCase().split(/\s+/).filter(Boolean),n=0;
all.forEach(function(d){var text=d.textContent.toLowerCase(),hit=words.every(function(w){return text.indexOf(w)>=0});d.hidden=!hit;if(hit)n++});
document.querySelectorAll('section[data-host]').forEach(function(s){s.hidden=words.length>0&&!s.querySelector('details[data-step]:not([hidden])')});
told.textContent=words.length?n+' of '+all.length+' steps':''}
find.addEventListener('input',show);
document.getElementById('open').addEventListener('click',function(){all.forEach(function(d){d.open=!d.hidden})});
document.getElementById('close').addEventListener('click',function(){all.forEach(function(d){d.open=false})});
function reveal(){var t=location.hash&&document.getElementById(decodeURIComponent(location.hash.slice(1)));if(t&&t.tagName==='DETAILS')t.open=true}
addEventListener('hashchange',reveal);reveal();
addEventListener('beforeprint',function(){all.forEach(function(d){d.dataset.was=d.open?'1':'';d.open=true})});
addEventListener('afterprint',function(){all.forEach(function(d){d.open=d.dataset.was==='1'})});
})();
