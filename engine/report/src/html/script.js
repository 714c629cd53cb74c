(function(){
var find=document.getElementById('find'),told=document.getElementById('found'),all=document.querySelectorAll('details[data-step]'),every=document.querySelectorAll('details');
function show(){var words=find.value.toLowerCase().split(/\s+/).filter(Boolean),n=0;
all.forEach(function(d){var text=d.textContent.toLowerCase(),hit=words.every(function(w){return text.indexOf(w)>=0});d.hidden=!hit;if(hit)n++});
document.querySelectorAll('section[data-host]').forEach(function(s){s.hidden=words.length>0&&!s.querySelector('details[data-step]:not([hidden])')});
document.querySelectorAll('section[data-host] .phase').forEach(function(p){var e=p.nextElementSibling;while(e&&e.hidden)e=e.nextElementSibling;p.hidden=words.length>0&&!(e&&e.tagName==='DETAILS')});
told.textContent=words.length?n+' of '+all.length+' steps':''}
find.addEventListener('input',show);
document.getElementById('open').addEventListener('click',function(){all.forEach(function(d){d.open=!d.hidden})});
document.getElementById('close').addEventListener('click',function(){all.forEach(function(d){d.open=false})});
function reveal(){var t=location.hash&&document.getElementById(decodeURIComponent(location.hash.slice(1)));if(!t)return;
if(t.closest('[hidden]')){find.value='';show()}
for(var d=t.closest('details');d;d=d.parentElement.closest('details'))d.open=true;t.scrollIntoView()}
addEventListener('hashchange',reveal);reveal();
addEventListener('beforeprint',function(){every.forEach(function(d){d.dataset.was=d.open?'1':'';d.open=true})});
addEventListener('afterprint',function(){every.forEach(function(d){d.open=d.dataset.was==='1'})});
})();
